// Finds installed models by name.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace flashvsr::stream {

inline constexpr const char* kBuiltInModel = "nano";

// Folders in which models are looked for, in order: those of FLASHVSR_MODEL_PATH (separated by colons), then
// ../share/flashvsr/models, models and ../models beside the library and beside the program, then the place where this
// build installs them.
std::vector<std::filesystem::path> model_folders();

// The models that a name finds: packed files and folders of published files, sorted by name; the first folder that has
// a name wins.
std::vector<std::filesystem::path> installed_models();

// "nano" -> FOLDER/nano.safetensors or the folder FOLDER/nano of the first FOLDER that has one. What is written as a
// path (with a slash, or ending in .safetensors) or lies in the current folder is taken as it is. Throws Error(io) that
// lists what is installed and where it looked.
std::filesystem::path find_model(const std::string& name);

}  // namespace flashvsr::stream
