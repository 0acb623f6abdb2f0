// The subcommands of the program. Each add_... function declares one with its options; the returned action runs it
// after parsing and gives the exit status. Errors are thrown.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>

namespace flashvsr::cli {

inline constexpr int kSuccess = 0, kFailure = 1, kUsageError = 2, kInterrupted = 130;

struct Command {
  CLI::App* app = nullptr;
  std::function<int()> action;
};

Command add_upscale_command(CLI::App& program);
Command add_verify_command(CLI::App& program);
Command add_bench_command(CLI::App& program);
Command add_info_command(CLI::App& program);
Command add_convert_command(CLI::App& program);

// The whole program: parses, runs, prints errors as one line on standard error, gives the exit status.
int run_program(int argument_count, const char* const* arguments);

}  // namespace flashvsr::cli
