#include "weights/pickle.h"

#include <algorithm>
#include <unordered_map>

namespace flashvsr::weights {
namespace {

// The largest published state dict makes 20,000 values; bounds the memory that a hostile pickle can claim, for values,
// memo and marks.
constexpr std::size_t kMostValues = 250'000;

enum Opcode : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersistentId = 'Q',
  kReduce = 'R',
  kBinFloat = 'G',
  kBinUnicode = 'X',
  kAppend = 'a',
  kAppends = 'e',
  kBuild = 'b',
  kGlobal = 'c',
  kEmptyTuple = ')',
  kEmptyList = ']',
  kEmptyDict = '}',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kSetItems = 'u',
  kTuple = 't',
  kProtocol = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kShortBinUnicode = 0x8c,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

class Machine {
 public:
  Machine(Bytes pickle, const std::string& origin,
          const std::function<bool(std::string_view, std::string_view)>& allowed)
      : pickle_(pickle), origin_(origin), allowed_(allowed) {}

  PickleGraph run() {
    if (take<std::uint8_t>() != kProtocol) damaged("it does not begin with a protocol of 2 or later");
    if (const auto protocol = take<std::uint8_t>(); protocol < 2 || protocol > 5) {
      damaged(fmt::format("protocol {} is not one of 2 to 5", protocol));
    }
    for (;;) {
      const auto opcode = take<std::uint8_t>();
      if (opcode == kStop) break;
      step(opcode);
    }
    if (stack_.size() != 1 || !marks_.empty()) damaged("it ends with more or less than one value");
    graph_.root = stack_.back();
    return std::move(graph_);
  }

 private:
  [[noreturn]] void damaged(const std::string& what) const {
    fail(ErrorCode::format, "{}: the pickle is damaged at byte {}: {}", origin_, position_, what);
  }

  template <typename T>
  T take() {
    return read_at<T>(take_bytes(sizeof(T)), 0);
  }

  Bytes take_bytes(std::uint64_t count) {
    if (count > pickle_.size() - position_) damaged("it ends in the middle of an instruction");
    const Bytes bytes = pickle_.subspan(position_, count);
    position_ += count;
    return bytes;
  }

  std::string_view take_line() {
    const std::string_view rest = as_text(pickle_.subspan(position_));
    const std::size_t length = rest.find('\n');
    if (length == std::string_view::npos) damaged("it ends in the middle of an instruction");
    position_ += length + 1;
    return rest.substr(0, length);
  }

  void push(PickleValue value) {
    if (graph_.values.size() >= kMostValues) damaged(fmt::format("it has more than {} values", kMostValues));
    graph_.values.push_back(std::move(value));
    stack_.push_back(static_cast<PickleIndex>(graph_.values.size() - 1));
  }

  void push_integer(std::int64_t value) {
    push({.kind = PickleKind::integer, .integer = value, .text = {}, .name = {}, .items = {}});
  }
  void push_kind(PickleKind kind, std::vector<PickleIndex> items = {}) {
    push({.kind = kind, .text = {}, .name = {}, .items = std::move(items)});
  }
  void push_text(Bytes bytes) { push({.kind = PickleKind::text, .text = as_text(bytes), .name = {}, .items = {}}); }

  // How many values lie above the last mark: only those can be taken.
  std::size_t available() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }

  PickleIndex pop() {
    if (available() == 0) damaged("a value is missing");
    const PickleIndex value = stack_.back();
    stack_.pop_back();
    return value;
  }

  PickleValue& top() {
    if (available() == 0) damaged("a value is missing");
    return graph_.values[stack_.back()];
  }

  std::vector<PickleIndex> pop_last(std::size_t count) {
    if (available() < count) damaged("a value is missing");
    const auto begin = stack_.end() - static_cast<std::ptrdiff_t>(count);
    std::vector<PickleIndex> values(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    return values;
  }

  std::vector<PickleIndex> pop_to_mark() {
    if (marks_.empty()) damaged("a mark is missing");
    std::vector<PickleIndex> values = pop_last(available());
    marks_.pop_back();
    return values;
  }

  void mark() {
    if (marks_.size() >= kMostValues) damaged(fmt::format("it has more than {} open marks", kMostValues));
    marks_.push_back(stack_.size());
  }

  void put(std::uint32_t key) {
    top();  // there must be one
    memo_[key] = stack_.back();
    if (memo_.size() > kMostValues) damaged(fmt::format("it remembers more than {} values", kMostValues));
  }

  void get(std::uint32_t key) {
    const auto found = memo_.find(key);
    if (found == memo_.end()) damaged(fmt::format("nothing was remembered as {}", key));
    stack_.push_back(found->second);
  }

  void append(std::vector<PickleIndex> values) {
    PickleValue& list = top();
    if (list.kind != PickleKind::list) damaged("it appends to what is no list");
    list.items.insert(list.items.end(), values.begin(), values.end());
  }

  void set_items(std::vector<PickleIndex> values) {
    PickleValue& dictionary = top();
    if (dictionary.kind != PickleKind::dictionary) damaged("it sets an item of what is no dictionary");
    if (values.size() % 2 != 0) damaged("a key has no value");
    dictionary.items.insert(dictionary.items.end(), values.begin(), values.end());
  }

  void push_global(std::string_view module, std::string_view name) {
    if (!allowed_(module, name)) {
      fail(ErrorCode::format,
           "{}: refuses to load: it asks for the Python object {}.{}, which no weights need; nothing was run", origin_,
           quote(module), quote(name));
    }
    push({.kind = PickleKind::global, .text = module, .name = name, .items = {}});
  }

  void stack_global() {
    const PickleValue &name = graph_[pop()], &module = graph_[pop()];
    if (name.kind != PickleKind::text || module.kind != PickleKind::text) damaged("the name of a global is no text");
    push_global(module.text, name.text);
  }

  void reduce() {
    const PickleIndex arguments = pop(), callable = pop();
    if (graph_[callable].kind != PickleKind::global) damaged("it calls what is no global");
    if (graph_[arguments].kind != PickleKind::tuple) damaged("arguments are no tuple");
    if (graph_[callable].text == "collections" && graph_[callable].name == "OrderedDict") {
      if (!graph_[arguments].items.empty()) damaged("an OrderedDict is made with arguments");
      push_kind(PickleKind::dictionary);
    } else {
      push_kind(PickleKind::call, {callable, arguments});
    }
  }

  // Attributes of an OrderedDict (a state dict's _metadata) say nothing about the weights; nothing else has any.
  void build() {
    pop();
    if (top().kind != PickleKind::dictionary) damaged("it sets attributes of what is no OrderedDict");
  }

  // Two's complement, little-endian, of up to 8 bytes.
  void push_long() {
    const Bytes bytes = take_bytes(take<std::uint8_t>());
    if (bytes.size() > 8) damaged(fmt::format("an integer has {} bytes", bytes.size()));
    std::uint64_t value = 0;
    if (!bytes.empty() && (bytes.back() & std::byte{0x80}) != std::byte{}) value = ~std::uint64_t{0};
    for (std::size_t i = bytes.size(); i-- > 0;) value = (value << 8) | std::to_integer<std::uint64_t>(bytes[i]);
    push_integer(static_cast<std::int64_t>(value));
  }

  void push_float() {
    std::uint64_t bits = 0;  // big-endian, alone of all
    for (const std::byte byte : take_bytes(8)) bits = (bits << 8) | std::to_integer<std::uint64_t>(byte);
    push({.kind = PickleKind::real, .real = std::bit_cast<double>(bits), .text = {}, .name = {}, .items = {}});
  }

  void step(std::uint8_t opcode) {
    switch (opcode) {
      case kMark: mark(); return;
      case kPop: pop(); return;
      case kNone: push_kind(PickleKind::none); return;
      case kNewTrue:
      case kNewFalse:
        push({.kind = PickleKind::boolean, .integer = opcode == kNewTrue, .text = {}, .name = {}, .items = {}});
        return;
      case kBinInt: push_integer(take<std::int32_t>()); return;
      case kBinInt1: push_integer(take<std::uint8_t>()); return;
      case kBinInt2: push_integer(take<std::uint16_t>()); return;
      case kLong1: push_long(); return;
      case kBinFloat: push_float(); return;
      case kBinUnicode: push_text(take_bytes(take<std::uint32_t>())); return;
      case kShortBinUnicode: push_text(take_bytes(take<std::uint8_t>())); return;
      case kEmptyTuple: push_kind(PickleKind::tuple); return;
      case kTuple1:
      case kTuple2:
      case kTuple3: push_kind(PickleKind::tuple, pop_last(opcode - kTuple1 + 1u)); return;
      case kTuple: push_kind(PickleKind::tuple, pop_to_mark()); return;
      case kEmptyList: push_kind(PickleKind::list); return;
      case kAppend: append(pop_last(1)); return;
      case kAppends: append(pop_to_mark()); return;
      case kEmptyDict: push_kind(PickleKind::dictionary); return;
      case kSetItem: set_items(pop_last(2)); return;
      case kSetItems: set_items(pop_to_mark()); return;
      case kBinPut: put(take<std::uint8_t>()); return;
      case kLongBinPut: put(take<std::uint32_t>()); return;
      case kMemoize: put(static_cast<std::uint32_t>(memo_.size())); return;
      case kBinGet: get(take<std::uint8_t>()); return;
      case kLongBinGet: get(take<std::uint32_t>()); return;
      case kGlobal: {
        const std::string_view module = take_line();
        push_global(module, take_line());
        return;
      }
      case kStackGlobal: stack_global(); return;
      case kBinPersistentId: push_kind(PickleKind::persistent, pop_last(1)); return;
      case kReduce: reduce(); return;
      case kBuild: build(); return;
      case kFrame:
        if (take<std::uint64_t>() > pickle_.size() - position_) damaged("a frame is longer than the pickle");
        return;
      default:
        fail(ErrorCode::format, "{}: refuses to load: the pickle has the instruction {:#04x}, which no weights need",
             origin_, opcode);
    }
  }

  Bytes pickle_;
  const std::string& origin_;
  const std::function<bool(std::string_view, std::string_view)>& allowed_;
  std::uint64_t position_ = 0;
  PickleGraph graph_;
  std::vector<PickleIndex> stack_;
  std::vector<std::size_t> marks_;
  std::unordered_map<std::uint32_t, PickleIndex> memo_;
};

}  // namespace

PickleGraph parse_pickle(Bytes pickle, const std::string& origin,
                         const std::function<bool(std::string_view module, std::string_view name)>& allowed) {
  return Machine(pickle, origin, allowed).run();
}

}  // namespace flashvsr::weights
