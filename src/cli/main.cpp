#include "cli/commands.h"

int main(int argument_count, char** arguments) { return flashvsr::cli::run_program(argument_count, arguments); }
