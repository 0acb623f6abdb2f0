#include "weights/torch_archive.h"

#include "weights/bytes.h"
#include "weights/mapped_file.h"
#include "weights/pickle.h"
#include "weights/zip.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <optional>

namespace flashvsr::weights {
namespace {

// The largest published pickle has 100 KB.
constexpr std::uint64_t kLongestPickle = std::uint64_t{1} << 22;

struct StorageType {
  std::string_view name;  // in the module torch
  std::optional<DType> type;
};
// Those without a type may be named by an archive but not asked for.
constexpr std::array<StorageType, 14> kStorageTypes{{{"FloatStorage", DType::f32},
                                                     {"BFloat16Storage", DType::bf16},
                                                     {"HalfStorage", DType::f16},
                                                     {"DoubleStorage", DType::f64},
                                                     {"ByteStorage", DType::u8},
                                                     {"IntStorage", DType::i32},
                                                     {"LongStorage", DType::i64},
                                                     {"BoolStorage", {}},
                                                     {"CharStorage", {}},
                                                     {"ShortStorage", {}},
                                                     {"ComplexFloatStorage", {}},
                                                     {"ComplexDoubleStorage", {}},
                                                     {"QInt8Storage", {}},
                                                     {"QUInt8Storage", {}}}};

bool is_allowed(std::string_view module, std::string_view name) {
  if (module == "torch") {
    return std::any_of(kStorageTypes.begin(), kStorageTypes.end(),
                       [&](const StorageType& type) { return type.name == name; });
  }
  if (module == "torch._utils") return name == "_rebuild_tensor_v2" || name == "_rebuild_parameter";
  if (module == "torch.storage") return name == "UntypedStorage" || name == "TypedStorage";
  return module == "collections" && name == "OrderedDict";
}

// What a storage's persistent identifier says: ("storage", type, key, device, elements).
struct StorageReference {
  DType type;
  std::uint64_t offset = 0;  // in the file, bytes
  std::int64_t elements = 0;
};

class ArchiveReader {
 public:
  ArchiveReader(std::shared_ptr<Storage> file, const std::string& origin)
      : file_(std::move(file)),
        bytes_(static_cast<const std::byte*>(file_->data()), file_->bytes()),
        copy_budget_(file_->bytes()),
        origin_(origin) {}

  TorchArchive read() {
    refuse_lookalikes(bytes_, origin_);
    refuse_other_formats();
    read_entries();
    const ZipEntry& pickle = entry("data.pkl");
    if (pickle.size > kLongestPickle) {
      fail(ErrorCode::format, "{}: its pickle has {} bytes; at most {} are expected", origin_, pickle.size,
           kLongestPickle);
    }
    check_crc(bytes_, pickle, origin_);
    graph_ = parse_pickle(bytes_.subspan(pickle.offset, pickle.size), origin_, is_allowed);
    TorchArchive archive;
    if (const PickleValue& root = graph_[graph_.root]; root.kind == PickleKind::dictionary) {
      read_state_dict(state_dict(root), archive.tensors);
    } else {
      archive.tensor = Parameter("tensor", rebuild(root, "the tensor"));
    }
    return archive;
  }

 private:
  template <typename... Arguments>
  [[noreturn]] void bad(fmt::format_string<Arguments...> format, Arguments&&... arguments) const {
    fail(ErrorCode::format, "{}: {}", origin_, fmt::format(format, std::forward<Arguments>(arguments)...));
  }

  void refuse_other_formats() const {
    const std::string_view text = as_text(bytes_.first(std::min<std::size_t>(bytes_.size(), 4)));
    if (text.starts_with("\x80\x02")) {
      bad("was saved in the format of PyTorch before 1.6; save it again: torch.save(torch.load(file), file)");
    }
    if (!text.starts_with("PK")) bad("is not a torch.save archive");
  }

  // All names lie under one folder, whatever it is called: the one of data.pkl.
  void read_entries() {
    std::vector<ZipEntry> all = read_zip_directory(bytes_, origin_);
    std::string folder;
    for (const ZipEntry& entry : all) {
      const std::size_t slash = entry.name.find('/');
      if (slash != std::string::npos && entry.name.substr(slash) == "/data.pkl") {
        if (!folder.empty()) bad("has more than one data.pkl");
        folder = entry.name.substr(0, slash + 1);
      }
    }
    if (folder.empty()) bad("is a zip archive, but not one of torch.save: it has no data.pkl");
    for (ZipEntry& entry : all) {
      if (!entry.name.starts_with(folder)) bad("has {} outside of its folder", quote(entry.name));
      std::string name = entry.name.substr(folder.size());
      entries_.emplace(std::move(name), std::move(entry));
    }
    if (entries_.contains("constants.pkl")) {
      bad("is a TorchScript program, not a state dict; save the state_dict() of the module");
    }
    if (const auto order = entries_.find("byteorder"); order != entries_.end()) {
      check_crc(bytes_, order->second, origin_);
      const std::string_view text = as_text(bytes_.subspan(order->second.offset, order->second.size));
      if (text != "little") bad("was saved with the byte order {}, not \"little\"", quote(text));
    }
  }

  const ZipEntry& entry(const std::string& name) const {
    const auto found = entries_.find(name);
    if (found == entries_.end()) bad("has no {}", quote(name));
    return found->second;
  }

  // The dictionary itself, or the one that a training checkpoint keeps it in.
  const PickleValue& state_dict(const PickleValue& root) const {
    for (std::size_t i = 0; i + 1 < root.items.size(); i += 2) {
      const PickleValue &key = graph_[root.items[i]], &value = graph_[root.items[i + 1]];
      const bool wraps =
          key.kind == PickleKind::text && (key.text == "state_dict" || key.text == "model" || key.text == "params");
      if (wraps && value.kind == PickleKind::dictionary) return value;
    }
    return root;
  }

  void read_state_dict(const PickleValue& dictionary, WeightMap& tensors) {
    for (std::size_t i = 0; i + 1 < dictionary.items.size(); i += 2) {
      const PickleValue& key = graph_[dictionary.items[i]];
      if (key.kind != PickleKind::text) bad("has a key that is no text; a state dict is expected");
      std::string name(key.text);
      if (tensors.contains(name)) bad("has {} twice", quote(name));
      Tensor values = rebuild(graph_[dictionary.items[i + 1]], quote(name));
      Parameter parameter(name, std::move(values));
      tensors.emplace(std::move(name), std::move(parameter));
    }
  }

  bool calls(const PickleValue& value, std::string_view function) const {
    return value.kind == PickleKind::call && graph_[value.items[0]].text == "torch._utils" &&
           graph_[value.items[0]].name == function;
  }

  // torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata]), possibly as the
  // first argument of _rebuild_parameter.
  Tensor rebuild(const PickleValue& value, const std::string& what) {
    const PickleValue* tensor = &value;
    if (calls(value, "_rebuild_parameter")) {
      const std::vector<PickleIndex>& arguments = graph_[value.items[1]].items;
      if (arguments.empty()) bad("{} is a parameter without values", what);
      tensor = &graph_[arguments[0]];
    }
    if (!calls(*tensor, "_rebuild_tensor_v2")) bad("{} is not a tensor; a state dict is expected", what);
    const std::vector<PickleIndex>& arguments = graph_[tensor->items[1]].items;
    if (arguments.size() < 4) bad("{} lacks storage, offset, size or stride", what);
    const StorageReference storage = storage_reference(graph_[arguments[0]], what);
    const PickleValue& offset = graph_[arguments[1]];
    if (offset.kind != PickleKind::integer || offset.integer < 0) bad("{} has no valid offset", what);
    return view(storage, offset.integer, integers(graph_[arguments[2]], what), integers(graph_[arguments[3]], what),
                what);
  }

  std::vector<std::int64_t> integers(const PickleValue& tuple, const std::string& what) const {
    if (tuple.kind != PickleKind::tuple) bad("{} has a size or stride that is no tuple", what);
    if (tuple.items.size() > Shape::kMaxRank) {
      bad("{} has {} dimensions; at most {} are supported", what, tuple.items.size(), Shape::kMaxRank);
    }
    std::vector<std::int64_t> values;
    for (const PickleIndex index : tuple.items) {
      const PickleValue& value = graph_[index];
      if (value.kind != PickleKind::integer || value.integer < 0) bad("{} has a size or stride below zero", what);
      values.push_back(value.integer);
    }
    return values;
  }

  StorageReference storage_reference(const PickleValue& value, const std::string& what) const {
    const auto is_text = [](const PickleValue& item) { return item.kind == PickleKind::text; };
    const PickleValue* const id = value.kind == PickleKind::persistent ? &graph_[value.items[0]] : nullptr;
    if (!id || id->kind != PickleKind::tuple || id->items.size() < 5 || !is_text(graph_[id->items[0]]) ||
        graph_[id->items[0]].text != "storage" || graph_[id->items[1]].kind != PickleKind::global ||
        !is_text(graph_[id->items[2]]) || graph_[id->items[4]].kind != PickleKind::integer) {
      bad("{} has no valid storage", what);
    }
    const PickleValue& global = graph_[id->items[1]];
    const auto type = std::find_if(kStorageTypes.begin(), kStorageTypes.end(),
                                   [&](const StorageType& known) { return known.name == global.name; });
    if (global.text != "torch" || type == kStorageTypes.end() || !type->type) {
      bad("{} is stored as {}.{}, which is not supported; convert it to float32 or bfloat16", what, global.text,
          global.name);
    }
    StorageReference reference{.type = *type->type, .elements = graph_[id->items[4]].integer};
    const std::string key = "data/" + std::string(graph_[id->items[2]].text);
    const ZipEntry& data = entry(key);
    std::uint64_t bytes = 0;
    if (reference.elements < 0 ||
        __builtin_mul_overflow(static_cast<std::uint64_t>(reference.elements), size_of(reference.type), &bytes) ||
        bytes != data.size) {
      bad("{} claims {} values of {} in {}, which has {} bytes", what, reference.elements, name_of(reference.type),
          quote(key), data.size);
    }
    reference.offset = data.offset;
    return reference;
  }

  Tensor view(const StorageReference& storage, std::int64_t offset, const std::vector<std::int64_t>& size,
              const std::vector<std::int64_t>& stride, const std::string& what) {
    if (stride.size() != size.size()) bad("{} has {} sizes and {} strides", what, size.size(), stride.size());
    // The last element must lie in the storage, and there must not be more elements than the storage has.
    const bool empty = std::find(size.begin(), size.end(), 0) != size.end();
    std::int64_t count = 1, last = offset;
    bool valid = true, contiguous = true;
    for (std::size_t i = size.size(); i-- > 0;) {
      std::int64_t reach = 0;
      if (size[i] != 1 && stride[i] != count) contiguous = false;
      valid = valid && (empty || (!__builtin_mul_overflow(size[i] - 1, stride[i], &reach) &&
                                  !__builtin_add_overflow(last, reach, &last)));
      valid = valid && !__builtin_mul_overflow(count, size[i], &count);
    }
    const Shape shape{std::span<const std::int64_t>(size)};
    if (!valid || count > storage.elements || (empty ? offset > storage.elements : last >= storage.elements)) {
      bad("{} {} with strides [{}] from {} does not fit in its storage of {} values", what, shape.to_string(),
          fmt::join(stride, ", "), offset, storage.elements);
    }
    const std::size_t element = size_of(storage.type);
    const std::uint64_t begin = storage.offset + static_cast<std::uint64_t>(offset) * element;
    const std::byte* const source = bytes_.data() + begin;
    if (empty || contiguous) {
      if (empty) return allocate_host(shape, storage.type);
      if (reinterpret_cast<std::uintptr_t>(source) % element == 0) return {shape, storage.type, file_, begin};
    }
    const std::size_t bytes = static_cast<std::size_t>(count) * element;
    // Without this, a small file could name one storage many times and have it copied every time.
    if (bytes > copy_budget_) bad("its tensors share storages in a way that takes more memory than the file has");
    copy_budget_ -= bytes;
    Tensor copy = allocate_host(shape, storage.type);
    gather(source, element, size, stride, static_cast<std::byte*>(copy.mutable_raw()));
    return copy;
  }

  // Copies a strided view into contiguous memory, innermost dimension last.
  static void gather(const std::byte* source, std::size_t element, std::span<const std::int64_t> size,
                     std::span<const std::int64_t> stride, std::byte* destination) {
    if (size.empty()) {
      std::memcpy(destination, source, element);
      return;
    }
    const std::size_t inner = std::accumulate(size.begin() + 1, size.end(), element, [](std::size_t product, auto dim) {
      return product * static_cast<std::size_t>(dim);
    });
    for (std::int64_t i = 0; i < size[0]; ++i) {
      gather(source + static_cast<std::size_t>(i * stride[0]) * element, element, size.subspan(1), stride.subspan(1),
             destination + static_cast<std::size_t>(i) * inner);
    }
  }

  std::shared_ptr<Storage> file_;
  Bytes bytes_;
  std::uint64_t copy_budget_;
  const std::string& origin_;
  std::map<std::string, ZipEntry> entries_;  // by the name inside the folder
  PickleGraph graph_;
};

}  // namespace

TorchArchive read_torch_archive(const std::filesystem::path& path) {
  return parse_torch_archive(map_file(path), path.string());
}

TorchArchive parse_torch_archive(const std::shared_ptr<Storage>& file, const std::string& origin) {
  return ArchiveReader(file, origin).read();
}

}  // namespace flashvsr::weights
