// How long OpenMP's threads spin before they sleep.
#pragma once

namespace flashvsr::cli {

// GCC's OpenMP lets a thread that waits spin for milliseconds. On a machine that has other work, it takes the processor
// from the very thread that it waits for. This bounds it to microseconds, unless OMP_WAIT_POLICY or GOMP_SPINCOUNT say
// how to wait: docs/SPEED.md has the figures. The library reads its settings when it is loaded, before main(), so the
// program starts itself anew, in the same process, with the setting in its environment; where that cannot be done it
// goes on as it is. Call it first; it costs as long as the program takes to load (0.05 s with FFmpeg's libraries).
void bound_spinning(char** arguments) noexcept;

}  // namespace flashvsr::cli
