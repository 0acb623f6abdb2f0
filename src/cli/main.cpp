#include "cli/commands.h"
#include "cli/waiting.h"

#include <string_view>

int main(int argument_count, char** arguments) {
  const std::string_view command = argument_count > 1 ? arguments[1] : "";
  if (command == "upscale" || command == "bench" || command == "verify") flashvsr::cli::bound_spinning(arguments);
  return flashvsr::cli::run_program(argument_count, arguments);
}
