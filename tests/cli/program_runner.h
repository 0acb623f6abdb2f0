// Runs the built program as a user does, in a folder of its own.
#pragma once

#include <gtest/gtest.h>

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace flashvsr::cli::test {

struct ProgramResult {
  int status = -1;  // exit status; 128 + signal if a signal ended it
  std::string out, err;

  int error_lines() const;
};

// How OpenMP's threads wait: asleep, as tests run side by side, or as the program itself decides.
enum class Waiting { asleep, as_it_decides };

// A program that is still running. Standard input comes from `input_fd` (-1: nothing).
class RunningProgram {
 public:
  RunningProgram(const std::vector<std::string>& arguments, const std::filesystem::path& folder, int input_fd = -1,
                 Waiting waiting = Waiting::asleep);
  ~RunningProgram();
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  pid_t pid() const { return pid_; }
  // Gives up, and fails the test, after a time that no test needs.
  ProgramResult wait();

 private:
  pid_t pid_ = -1;
  std::filesystem::path out_path_, err_path_;
};

// With an empty folder for files, removed at the end.
class ProgramTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  ProgramResult run(const std::vector<std::string>& arguments, const std::string& input = {}) const;
  std::filesystem::path path(const std::string& name) const { return folder_ / name; }
  const std::filesystem::path& folder() const { return folder_; }
  // What lies in the folder, sorted.
  std::vector<std::string> files() const;

 private:
  std::filesystem::path folder_, streams_;
};

// A golden set of the repository: "v1", "v1.1", "attention".
std::filesystem::path golden_set(const std::string& name);

}  // namespace flashvsr::cli::test
