// Temporary: which variant of a kernel to run, by the environment, so that one run on a GPU times them all.
#pragma once

#include <cstdlib>

namespace flashvsr::cuda {

inline int lab_choice(const char* variable, int otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr ? std::atoi(value) : otherwise;
}

}  // namespace flashvsr::cuda
