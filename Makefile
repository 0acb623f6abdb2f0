# The short way to everything; CMake does the work (CMakePresets.json).
#   make          builds the program build/flashvsr and the libraries
#   make demo     installs what it needs, builds, upscales samples/clip.mp4 to out/demo.mp4 and out/demo.png
#   make test     installs what it needs, builds, runs every test and the fuzzers
#   make install  installs under PREFIX (default /usr/local)
#   make format   formats the sources
PREFIX ?= /usr/local
CMAKE_CXX_COMPILER_LAUNCHER ?= $(shell command -v ccache)
CMAKE_C_COMPILER_LAUNCHER ?= $(CMAKE_CXX_COMPILER_LAUNCHER)
export CMAKE_CXX_COMPILER_LAUNCHER CMAKE_C_COMPILER_LAUNCHER

.PHONY: all packages demo test install format clean
all:
	@command -v cmake >/dev/null && command -v ninja >/dev/null || \
	  { echo "make: cmake or ninja is missing; 'make packages' installs what the build needs" >&2; exit 1; }
	cmake --preset release
	cmake --build --preset release

packages:
	scripts/install-packages build

demo:
	scripts/demo

test:
	scripts/test

install: all
	cmake --install build --prefix $(PREFIX)

format:
	git ls-files '*.cpp' '*.h' '*.c' '*.cu' '*.cuh' | xargs clang-format -i

# Build folders of other presets, below build/, stay.
clean:
	cmake --build --preset release --target clean
