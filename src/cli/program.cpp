#include "cli/commands.h"

#include "cli/reporter.h"
#include "core/error.h"
#include "flashvsr/flashvsr.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <new>
#include <string>

namespace flashvsr::cli {
namespace {

int report(const std::string& message, int status) {
  fmt::print(stderr, "flashvsr: {}\n", one_line(message));
  return status;
}

}  // namespace

int run_program(int argument_count, const char* const* arguments) {
  CLI::App program("Streaming video super-resolution in one diffusion step (FlashVSR).", "flashvsr");
  program.set_version_flag("--version", "flashvsr " + std::string(flashvsr_version()));
  program.require_subcommand(1);
  const std::array commands{add_upscale_command(program), add_verify_command(program), add_bench_command(program),
                            add_info_command(program), add_convert_command(program)};
  try {
    program.parse(argument_count, arguments);
    for (const Command& command : commands) {
      if (command.app->parsed()) return command.action();
    }
    return kUsageError;
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return program.exit(error);
    return report(fmt::format("{}; see flashvsr --help", error.what()), kUsageError);
  } catch (const std::bad_alloc&) {
    return report("not enough memory; a smaller output needs less", kFailure);
  } catch (const std::exception& error) {
    return report(error.what(), kFailure);
  }
}

}  // namespace flashvsr::cli
