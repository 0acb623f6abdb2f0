#include "program_runner.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace flashvsr::cli::test {
namespace {

constexpr auto kPatience = std::chrono::seconds(300);

std::filesystem::path make_folder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "flashvsr-test-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("cannot make " + pattern);
  return pattern;
}

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string unique_name() {
  static int count = 0;
  return ".flashvsr-stream-" + std::to_string(getpid()) + "-" + std::to_string(count++);
}

}  // namespace

int ProgramResult::error_lines() const { return static_cast<int>(std::count(err.begin(), err.end(), '\n')); }

RunningProgram::RunningProgram(const std::vector<std::string>& arguments, const std::filesystem::path& folder,
                               int input_fd, Waiting waiting)
    : out_path_(std::filesystem::temp_directory_path() / unique_name()),
      err_path_(std::filesystem::temp_directory_path() / unique_name()) {
  std::vector<std::string> words{FLASHVSR_BINARY_DIR "/flashvsr"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const int out = open(out_path_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  const int err = open(err_path_.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  pid_ = fork();
  if (pid_ == 0) {
    // A test runner in the background may ignore these.
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) std::signal(signal, SIG_DFL);
    if (waiting == Waiting::asleep) {
      // Threads that spin while they wait would take the processors from each other.
      setenv("OMP_WAIT_POLICY", "passive", 0);
    } else {
      for (const char* variable : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}) unsetenv(variable);
    }
    dup2(input_fd >= 0 ? input_fd : nothing, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    if (chdir(folder.c_str()) == 0) execv(argv[0], argv.data());
    _exit(127);
  }
  close(out);
  close(err);
  close(nothing);
}

RunningProgram::~RunningProgram() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::error_code error;
  std::filesystem::remove(out_path_, error);
  std::filesystem::remove(err_path_, error);
}

ProgramResult RunningProgram::wait() {
  ProgramResult result;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  int status = 0;
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "the program does not end";
      kill(pid_, SIGKILL);
      waitpid(pid_, &status, 0);
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  pid_ = -1;
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = read_file(out_path_);
  result.err = read_file(err_path_);
  return result;
}

void ProgramTest::SetUp() {
  folder_ = make_folder();
  streams_ = make_folder();
}

void ProgramTest::TearDown() {
  std::filesystem::remove_all(folder_);
  std::filesystem::remove_all(streams_);
}

ProgramResult ProgramTest::run(const std::vector<std::string>& arguments, const std::string& input) const {
  if (input.empty()) return RunningProgram(arguments, folder_).wait();
  const std::filesystem::path path = streams_ / "input";
  std::ofstream(path, std::ios::binary) << input;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  RunningProgram program(arguments, folder_, fd);
  close(fd);
  return program.wait();
}

std::vector<std::string> ProgramTest::files() const {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_)) {
    names.push_back(std::filesystem::relative(entry.path(), folder_).string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::filesystem::path golden_set(const std::string& name) {
  return std::filesystem::path(FLASHVSR_SOURCE_DIR) / "tests" / "golden" / name;
}

}  // namespace flashvsr::cli::test
