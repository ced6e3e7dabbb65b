// SPDX-License-Identifier: Apache-2.0
// Values as Cap'n Proto messages. The library throws for what a message does wrong: every exception
// ends in this file.
#include <capnp/message.h>
#include <capnp/serialize.h>

#include <cstring>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <variant>

#include "src/base/status.h"
#include "src/base/utf8.h"
#include "value.capnp.h"
#include "waxvm/session.h"
#include "waxvm/value.h"

namespace waxvm {
namespace {

/// Counts what one message has, against its bounds.
class Budget {
 public:
  /// Before each value.
  absl::Status Take() {
    // A value takes more room in memory than in a message, where null takes none.
    if (++values_ > kMaxValues)
      return InvalidArgument("a value consists of more than %d values", kMaxValues);
    return absl::OkStatus();
  }

 private:
  std::size_t values_ = 0;
};

/// Before each list and map that lies in `depth` others. Deeply nested messages would exhaust the
/// stack of whoever walks through them.
absl::Status CheckDepth(int depth) {
  if (depth < kMaxValueDepth) return absl::OkStatus();
  return InvalidArgument("a value has more than %d levels of lists and maps", kMaxValueDepth);
}

/// The keys of one map, in a table: maps come from strangers.
class Keys {
 public:
  absl::Status Add(std::string_view key) {
    if (!IsUtf8(key)) return InvalidArgument("the key of a map is not UTF-8");
    if (!seen_.insert(key).second) return InvalidArgument("a key is twice in one map");
    return absl::OkStatus();
  }

 private:
  std::unordered_set<std::string_view> seen_;
};

class Writer {
 public:
  absl::Status Write(const Value& value, wire::Value::Builder to, int depth) {
    WAXVM_RETURN_IF_ERROR(budget_.Take());
    return std::visit([&](const auto& v) { return Put(v, to, depth); }, value.kind);
  }

 private:
  static absl::Status Put(std::monostate, wire::Value::Builder to, int) {
    return to.setNull(), absl::OkStatus();
  }
  static absl::Status Put(bool v, wire::Value::Builder to, int) {
    return to.setBool(v), absl::OkStatus();
  }
  static absl::Status Put(std::int64_t v, wire::Value::Builder to, int) {
    return to.setInt64(v), absl::OkStatus();
  }
  static absl::Status Put(std::uint64_t v, wire::Value::Builder to, int) {
    return to.setUint64(v), absl::OkStatus();
  }
  static absl::Status Put(double v, wire::Value::Builder to, int) {
    return to.setFloat64(v), absl::OkStatus();
  }
  absl::Status Put(const std::string& v, wire::Value::Builder to, int) {
    if (!IsUtf8(v)) return InvalidArgument("a text is not UTF-8; use data for bytes");
    WAXVM_RETURN_IF_ERROR(Count(v.size() + 1));
    std::memcpy(to.initText(static_cast<unsigned>(v.size())).begin(), v.data(), v.size());
    return absl::OkStatus();
  }
  absl::Status Put(const Data& v, wire::Value::Builder to, int) {
    WAXVM_RETURN_IF_ERROR(Count(v.bytes.size()));
    std::memcpy(to.initData(static_cast<unsigned>(v.bytes.size())).begin(), v.bytes.data(),
                v.bytes.size());
    return absl::OkStatus();
  }
  absl::Status Put(const ValueList& v, wire::Value::Builder to, int depth) {
    WAXVM_RETURN_IF_ERROR(CheckDepth(depth));
    WAXVM_RETURN_IF_ERROR(Count(v.size() * 8));
    auto list = to.initList(static_cast<unsigned>(v.size()));
    for (std::size_t i = 0; i < v.size(); ++i)
      WAXVM_RETURN_IF_ERROR(Write(v[i], list[static_cast<unsigned>(i)], depth + 1));
    return absl::OkStatus();
  }
  absl::Status Put(const ValueMap& v, wire::Value::Builder to, int depth) {
    WAXVM_RETURN_IF_ERROR(CheckDepth(depth));
    Keys keys;
    WAXVM_RETURN_IF_ERROR(Count(v.size() * 16));
    auto map = to.initMap(static_cast<unsigned>(v.size()));
    for (std::size_t i = 0; i < v.size(); ++i) {
      WAXVM_RETURN_IF_ERROR(keys.Add(v[i].key));
      WAXVM_RETURN_IF_ERROR(Count(v[i].key.size() + 1));
      auto entry = map[static_cast<unsigned>(i)];
      std::memcpy(entry.initKey(static_cast<unsigned>(v[i].key.size())).begin(), v[i].key.data(),
                  v[i].key.size());
      WAXVM_RETURN_IF_ERROR(Write(v[i].value, entry.initValue(), depth + 1));
    }
    return absl::OkStatus();
  }

  /// A lower bound of the message's size, before its memory is taken.
  absl::Status Count(std::size_t bytes) {
    if (bytes > kMaxCallBytes || (bytes_ += bytes) > kMaxCallBytes)
      return InvalidArgument("a value takes more than %d bytes", kMaxCallBytes);
    return absl::OkStatus();
  }

  Budget budget_;
  std::size_t bytes_ = 0;
};

class Reader {
 public:
  absl::StatusOr<Value> Read(wire::Value::Reader from, int depth) {
    WAXVM_RETURN_IF_ERROR(budget_.Take());
    switch (from.which()) {
      case wire::Value::NULL_:
        return Value();
      case wire::Value::BOOL:
        return Value(from.getBool());
      case wire::Value::INT64:
        return Value(std::int64_t{from.getInt64()});
      case wire::Value::UINT64:
        return Value(std::uint64_t{from.getUint64()});
      case wire::Value::FLOAT64:
        return Value(from.getFloat64());
      case wire::Value::TEXT: {
        const capnp::Text::Reader text = from.getText();
        const std::string_view view(text.begin(), text.size());
        if (!IsUtf8(view)) return InvalidArgument("a text is not UTF-8");
        return Value(view);
      }
      case wire::Value::DATA: {
        const capnp::Data::Reader data = from.getData();
        return Value(Data{std::string(reinterpret_cast<const char*>(data.begin()), data.size())});
      }
      case wire::Value::LIST:
        return ReadList(from.getList(), depth);
      case wire::Value::MAP:
        return ReadMap(from.getMap(), depth);
    }
    return InvalidArgument("a value of the kind %d, which is none",
                           static_cast<unsigned>(from.which()));
  }

 private:
  // Nothing is reserved: a length that a message claims is not yet memory that it takes.
  absl::StatusOr<Value> ReadList(capnp::List<wire::Value>::Reader from, int depth) {
    WAXVM_RETURN_IF_ERROR(CheckDepth(depth));
    ValueList list;
    for (const wire::Value::Reader element : from) {
      WAXVM_ASSIGN_OR_RETURN(Value value, Read(element, depth + 1));
      list.push_back(std::move(value));
    }
    return Value(std::move(list));
  }

  absl::StatusOr<Value> ReadMap(capnp::List<wire::Value::Entry>::Reader from, int depth) {
    WAXVM_RETURN_IF_ERROR(CheckDepth(depth));
    ValueMap map;
    Keys keys;  // the message outlives it
    for (const wire::Value::Entry::Reader element : from) {
      const capnp::Text::Reader text = element.getKey();
      const std::string_view key(text.begin(), text.size());
      WAXVM_RETURN_IF_ERROR(keys.Add(key));
      WAXVM_ASSIGN_OR_RETURN(Value value, Read(element.getValue(), depth + 1));
      map.push_back({std::string(key), std::move(value)});
    }
    return Value(std::move(map));
  }

  Budget budget_;
};

absl::Status Malformed(const kj::Exception& thrown) {
  return InvalidArgument("the message of a value is malformed: %s",
                         std::string_view(thrown.getDescription().cStr()));
}

}  // namespace

absl::StatusOr<std::string> EncodeValue(const Value& value) {
  try {
    capnp::MallocMessageBuilder message;
    WAXVM_RETURN_IF_ERROR(Writer().Write(value, message.initRoot<wire::Value>(), 0));
    const std::size_t bytes = capnp::computeSerializedSizeInWords(message) * sizeof(capnp::word);
    if (bytes > kMaxCallBytes)
      return InvalidArgument("a value takes %d bytes, at most %d", bytes, kMaxCallBytes);
    const kj::Array<capnp::word> words = capnp::messageToFlatArray(message);
    const auto flat = words.asBytes();
    return std::string(reinterpret_cast<const char*>(flat.begin()), flat.size());
  } catch (const kj::Exception& thrown) {
    return Malformed(thrown);
  }
}

absl::StatusOr<Value> DecodeValue(std::string_view message) {
  if (message.size() > kMaxCallBytes)
    return InvalidArgument("the message of a value has %d bytes, at most %d", message.size(),
                           kMaxCallBytes);
  if (message.empty() || message.size() % sizeof(capnp::word) != 0)
    return InvalidArgument("the message of a value has %d bytes, not a multiple of %d, or none",
                           message.size(), sizeof(capnp::word));
  try {
    const std::size_t count = message.size() / sizeof(capnp::word);
    auto words = kj::heapArray<capnp::word>(count);
    std::memcpy(words.begin(), message.data(), message.size());
    capnp::ReaderOptions options;
    // Each word may be read once: pointers that share what they lead to would make a small message
    // into a value of any size. Each level takes two pointers.
    options.traversalLimitInWords = count;
    options.nestingLimit = 2 * kMaxValueDepth + 4;
    capnp::FlatArrayMessageReader reader(words, options);
    return Reader().Read(reader.getRoot<wire::Value>(), 0);
  } catch (const kj::Exception& thrown) {
    return Malformed(thrown);
  }
}

}  // namespace waxvm
