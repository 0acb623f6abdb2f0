// What this program was built with and what this machine offers.
#pragma once

#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace flashvsr::cli {

// {"version", "build": {compiler, type, onednn, ffmpeg, cuda, cuda_architectures}, "processor": {threads,
// features}, "devices": [{name, available, precision or reason, hardware of cuda}]}
nlohmann::ordered_json build_information();

// Instruction sets that matter to the engine and that this processor has: "avx2", "avx512_bf16", ...
std::vector<std::string> processor_features();

}  // namespace flashvsr::cli
