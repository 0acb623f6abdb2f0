#include "weights/safetensors.h"

#include "weights/atomic_file.h"
#include "weights/bytes.h"
#include "weights/mapped_file.h"
#include "weights/safetensors_header.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

namespace flashvsr::weights {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kLongestHeader = 100'000'000;  // of the format's specification

struct ElementType {
  std::string_view name;
  std::uint64_t bytes;
  std::optional<DType> type;
};
constexpr std::array<ElementType, 15> kElementTypes{{{"F32", 4, DType::f32},
                                                     {"BF16", 2, DType::bf16},
                                                     {"F16", 2, DType::f16},
                                                     {"F64", 8, DType::f64},
                                                     {"U8", 1, DType::u8},
                                                     {"I32", 4, DType::i32},
                                                     {"I64", 8, DType::i64},
                                                     {"BOOL", 1, {}},
                                                     {"I8", 1, {}},
                                                     {"I16", 2, {}},
                                                     {"U16", 2, {}},
                                                     {"U32", 4, {}},
                                                     {"U64", 8, {}},
                                                     {"F8_E4M3", 1, {}},
                                                     {"F8_E5M2", 1, {}}}};

std::string text_of(const std::vector<std::uint64_t>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

// Size of the data, or nothing where it does not fit in 63 bits. Later zeros do not excuse an overflow: such a shape
// cannot be meant.
std::optional<std::uint64_t> data_bytes(const std::vector<std::uint64_t>& shape, std::uint64_t element) {
  std::uint64_t bytes = element;
  for (const std::uint64_t dim : shape) {
    if (dim > INT64_MAX || __builtin_mul_overflow(bytes, dim, &bytes)) return std::nullopt;
  }
  return bytes > INT64_MAX ? std::nullopt : std::optional(bytes);
}

const ElementType& element_type(const SafetensorsEntry& entry, const std::string& origin) {
  for (const ElementType& type : kElementTypes) {
    if (type.name == entry.type) return type;
  }
  fail(ErrorCode::format, "{}: {} has the unknown type {}", origin, quote(entry.name), quote(entry.type));
}

void check_extent(const SafetensorsEntry& entry, std::uint64_t element, std::uint64_t available,
                  const std::string& origin) {
  if (entry.begin > entry.end || entry.end > available) {
    fail(ErrorCode::format, "{}: {} lies at bytes {} to {} of {} bytes of data; the file is cut or damaged", origin,
         quote(entry.name), entry.begin, entry.end, available);
  }
  const std::optional<std::uint64_t> bytes = data_bytes(entry.shape, element);
  if (!bytes) {
    fail(ErrorCode::format, "{}: {} has the impossible shape {}", origin, quote(entry.name), text_of(entry.shape));
  }
  if (*bytes != entry.end - entry.begin) {
    fail(ErrorCode::format, "{}: {} is {} {}, which takes {} bytes, but has {}", origin, quote(entry.name), entry.type,
         text_of(entry.shape), *bytes, entry.end - entry.begin);
  }
}

// The data must be covered exactly: no byte twice, none unused.
void check_cover(const std::vector<SafetensorsEntry>& entries, std::uint64_t available, const std::string& origin) {
  std::vector<const SafetensorsEntry*> order;
  order.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const SafetensorsEntry* a, const SafetensorsEntry* b) {
    return a->begin != b->begin ? a->begin < b->begin : a->end < b->end;
  });
  std::uint64_t covered = 0;
  const SafetensorsEntry* previous = nullptr;
  for (const SafetensorsEntry* entry : order) {
    if (entry->begin < covered) {
      fail(ErrorCode::format, "{}: the data of {} and {} overlap", origin, quote(previous->name), quote(entry->name));
    }
    if (entry->begin > covered) {
      fail(ErrorCode::format, "{}: bytes {} to {} of the data, before {}, belong to no tensor", origin, covered,
           entry->begin, quote(entry->name));
    }
    covered = entry->end;
    previous = entry;
  }
  if (covered != available) {
    fail(ErrorCode::format, "{}: the last {} bytes belong to no tensor", origin, available - covered);
  }
}

Tensor tensor_of(const SafetensorsEntry& entry, DType type, const std::shared_ptr<Storage>& file,
                 std::uint64_t data_begin) {
  std::array<std::int64_t, Shape::kMaxRank> dims{};
  std::transform(entry.shape.begin(), entry.shape.end(), dims.begin(),
                 [](std::uint64_t dim) { return static_cast<std::int64_t>(dim); });
  const Shape shape(std::span<const std::int64_t>(dims.data(), entry.shape.size()));
  const Tensor in_place(shape, type, file, data_begin + entry.begin);
  if (reinterpret_cast<std::uintptr_t>(in_place.raw()) % size_of(type) == 0) return in_place;
  Tensor copy = allocate_host(shape, type);
  std::memcpy(copy.mutable_raw(), in_place.raw(), in_place.bytes());
  return copy;
}

}  // namespace

SafetensorsFile read_safetensors(const std::filesystem::path& path) {
  return parse_safetensors(map_file(path), path.string());
}

SafetensorsFile parse_safetensors(const std::shared_ptr<Storage>& file, const std::string& origin) {
  const Bytes bytes(static_cast<const std::byte*>(file->data()), file->bytes());
  refuse_lookalikes(bytes, origin);
  if (bytes.size() < kLengthBytes + 2) {
    fail(ErrorCode::format, "{}: is not a safetensors file: it has only {} bytes", origin, bytes.size());
  }
  const auto length = read_at<std::uint64_t>(bytes, 0);
  if (length > kLongestHeader || length > bytes.size() - kLengthBytes || read_at<char>(bytes, kLengthBytes) != '{') {
    fail(ErrorCode::format,
         "{}: is not a safetensors file, or cut: it announces a header of {} bytes (at most {}, and the file has {})",
         origin, length, kLongestHeader, bytes.size());
  }
  const std::uint64_t data_begin = kLengthBytes + length, available = bytes.size() - data_begin;
  SafetensorsHeader header = parse_safetensors_header(as_text(bytes.subspan(kLengthBytes, length)), origin);
  SafetensorsFile result;
  result.metadata = std::move(header.metadata);
  for (const SafetensorsEntry& entry : header.entries) {
    check_extent(entry, element_type(entry, origin).bytes, available, origin);
  }
  check_cover(header.entries, available, origin);
  for (const SafetensorsEntry& entry : header.entries) {
    const std::optional<DType> type = element_type(entry, origin).type;
    if (!type || entry.shape.size() > Shape::kMaxRank) {
      result.unsupported.emplace(entry.name, entry.type + " " + text_of(entry.shape));
    } else {
      result.tensors.emplace(entry.name, Parameter(entry.name, tensor_of(entry, *type, file, data_begin)));
    }
  }
  return result;
}

void write_safetensors(const std::filesystem::path& path, const std::map<std::string, Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata, bool overwrite) {
  // Widest types first, so that every tensor is aligned to its elements without padding, which the format forbids.
  std::vector<std::pair<std::string, const Tensor*>> order;
  for (const auto& [name, tensor] : tensors) {
    require(name != "__metadata__", "a tensor cannot be called __metadata__");
    order.emplace_back(name, &tensor);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return size_of(a.second->dtype()) > size_of(b.second->dtype());
  });
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : order) {
    const auto dims = tensor->shape().dims();
    header[name] = {{"dtype", std::string(name_of(tensor->dtype()))},
                    {"shape", std::vector<std::int64_t>(dims.begin(), dims.end())},
                    {"data_offsets", {offset, offset + tensor->bytes()}}};
    offset += tensor->bytes();
  }
  std::string text = header.dump();
  // The data begins at a multiple of 64 bytes: a cache line, and any vector width.
  constexpr std::size_t kAlignment = 64;
  text.append((kAlignment - (kLengthBytes + text.size()) % kAlignment) % kAlignment, ' ');
  require(text.size() <= kLongestHeader, "a safetensors header of {} bytes is too long", text.size());

  AtomicFile file(path, kLengthBytes + text.size() + offset, overwrite);
  const std::uint64_t length = text.size();
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(std::as_bytes(std::span(text)));
  for (const auto& [name, tensor] : order) {
    file.write({static_cast<const std::byte*>(tensor->raw()), tensor->bytes()});
  }
  file.commit();
}

}  // namespace flashvsr::weights
