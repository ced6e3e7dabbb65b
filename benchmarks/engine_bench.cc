// SPDX-License-Identifier: Apache-2.0
// What does a message cost between engines, next to a bare queue between two threads; and from
// another process, next to Cap'n Proto's own reading of the same bytes? All in one run, so that
// ratios are fair. Threads are pinned to a CPU each; everything that is sent is counted.
#include <benchmark/benchmark.h>
#include <capnp/message.h>
#include <capnp/serialize.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "benchmarks/pin.h"
#include "envelope.capnp.h"
#include "src/base/status.h"
#include "src/messaging/engine_impl.h"
#include "src/messaging/envelope_codec.h"
#include "waxvm/engine.h"

namespace waxvm {
namespace {

constexpr std::size_t kBatch = 1'000;
constexpr std::size_t kQueueMessages = 1'024;
constexpr std::size_t kSubscribers = 1'000;

void Skip(benchmark::State& state, const absl::Status& status) {
  state.SkipWithError(std::string(status.message()).c_str());
}

/// What is handed over: a number, and what is to be done with it.
struct Call {
  void (*function)(void* context, std::uint64_t number) = nullptr;
  void* context = nullptr;
  std::uint64_t number = 0;
};

/// A bounded queue of calls and nothing else, for any number of writers and one reader.
class BareQueue {
 public:
  BareQueue() : cells_(new Cell[kQueueMessages]) {
    for (std::size_t i = 0; i < kQueueMessages; ++i) cells_[i].turn = i;
  }
  bool Push(const Call& call) {
    std::size_t at = tail_.load(std::memory_order_relaxed);
    for (;;) {
      Cell& cell = cells_[at % kQueueMessages];
      const auto ahead =
          static_cast<std::ptrdiff_t>(cell.turn.load(std::memory_order_acquire) - at);
      if (ahead < 0) return false;
      if (ahead > 0) {
        at = tail_.load(std::memory_order_relaxed);
      } else if (tail_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed)) {
        cell.call = call;
        cell.turn.store(at + 1, std::memory_order_release);
        return true;
      }
    }
  }
  bool Pop() {
    Cell& cell = cells_[head_ % kQueueMessages];
    if (cell.turn.load(std::memory_order_acquire) != head_ + 1) return false;
    const Call call = cell.call;
    cell.turn.store(head_ + kQueueMessages, std::memory_order_release);
    ++head_;
    call.function(call.context, call.number);
    return true;
  }

 private:
  struct alignas(64) Cell {
    std::atomic<std::size_t> turn;
    Call call;
  };
  const std::unique_ptr<Cell[]> cells_;
  alignas(64) std::atomic<std::size_t> tail_ = 0;
  alignas(64) std::size_t head_ = 0;
};

/// The same for one writer: not even a compare-and-swap. What no queue of several writers reaches.
class SingleWriterQueue {
 public:
  SingleWriterQueue() : calls_(new Call[kQueueMessages]) {}
  bool Push(const Call& call) {
    const std::size_t at = tail_.load(std::memory_order_relaxed);
    if (at - known_head_ == kQueueMessages) {
      known_head_ = head_.load(std::memory_order_acquire);
      if (at - known_head_ == kQueueMessages) return false;
    }
    calls_[at % kQueueMessages] = call;
    tail_.store(at + 1, std::memory_order_release);
    return true;
  }
  bool Pop() {
    const std::size_t at = head_.load(std::memory_order_relaxed);
    if (at == known_tail_) {
      known_tail_ = tail_.load(std::memory_order_acquire);
      if (at == known_tail_) return false;
    }
    const Call call = calls_[at % kQueueMessages];
    head_.store(at + 1, std::memory_order_release);
    call.function(call.context, call.number);
    return true;
  }

 private:
  const std::unique_ptr<Call[]> calls_;
  alignas(64) std::atomic<std::size_t> tail_ = 0;
  std::size_t known_head_ = 0;
  alignas(64) std::atomic<std::size_t> head_ = 0;
  std::size_t known_tail_ = 0;
};

/// Runs `turn` over and over on the other CPU until it goes.
class Other {
 public:
  explicit Other(std::function<void()> turn)
      : thread_([this, turn = std::move(turn)] {
          PinTo(/*last=*/true);
          while (!stop_.load(std::memory_order_relaxed)) turn();
        }) {}
  ~Other() {
    stop_ = true;
    thread_.join();
  }

 private:
  std::atomic<bool> stop_ = false;
  std::thread thread_;
};

/// Written by one thread.
struct alignas(64) Count {
  std::atomic<std::uint64_t> value = 0;
  void Add() { value.store(value.load(std::memory_order_relaxed) + 1, std::memory_order_release); }
  std::uint64_t get() const { return value.load(std::memory_order_acquire); }
};

template <typename Queue>
void HandOverQueue(benchmark::State& state) {
  PinTo(/*last=*/false);
  Queue queue;
  Count handled;
  const Call call = {.function = [](void* to, std::uint64_t) { static_cast<Count*>(to)->Add(); },
                     .context = &handled};
  std::uint64_t sent = 0;
  const Other other([&] {
    for (int i = 0; i < 64 && queue.Pop(); ++i) continue;
  });
  while (state.KeepRunningBatch(kBatch))
    for (std::size_t i = 0; i < kBatch; ++i, ++sent)
      while (!queue.Push(call)) continue;
  while (handled.get() < sent) continue;
}

void RoundTripQueue(benchmark::State& state) {
  PinTo(/*last=*/false);
  BareQueue there;
  BareQueue back;
  Count handled;
  struct Answer {
    BareQueue& back;
    Call call;
  } answer = {back,
              {.function = [](void* to, std::uint64_t) { static_cast<Count*>(to)->Add(); },
               .context = &handled}};
  const Call call = {.function =
                         [](void* to, std::uint64_t) {
                           auto* const a = static_cast<Answer*>(to);
                           a->back.Push(a->call);
                         },
                     .context = &answer};
  const Other other([&] { there.Pop(); });
  while (state.KeepRunning()) {
    there.Push(call);
    while (!back.Pop()) continue;
  }
}

struct Ping {
  static constexpr MessageType kMessageType = 0x1000;
  std::uint64_t number = 0;
  absl::StatusOr<std::string> Encode() const { return absl::InternalError("was serialised"); }
  static absl::StatusOr<Ping> Decode(std::string_view) { return absl::InternalError("was parsed"); }
};

/// Engines of one process, and their keys.
struct Process {
  std::unique_ptr<MessageHub> hub = *MessageHub::Create();
  std::vector<SigningKey> keys = {};
  std::vector<std::unique_ptr<Engine>> engines = {};

  explicit Process(std::size_t count, const EngineOptions& options = {}) {
    for (std::size_t i = 0; i < count; ++i) keys.push_back(*SigningKey::Generate());
    for (const SigningKey& key : keys) engines.push_back(*Engine::Create(hub.get(), &key, options));
  }
};

void HandOverEngine(benchmark::State& state) {
  PinTo(/*last=*/false);
  Process process(2, {.inbox_messages = kQueueMessages});
  Engine& to = *process.engines[1];
  Count handled;
  (void)to.On<Ping>([&](const Ping&, const MessageInfo&) { handled.Add(); });
  std::uint64_t sent = 0;
  const Other other([&] { to.Poll(64); });
  while (state.KeepRunningBatch(kBatch))
    for (std::size_t i = 0; i < kBatch; ++i, ++sent)
      while (!process.engines[0]->Send(to.key(), Ping{sent}).ok()) continue;
  while (handled.get() < sent) continue;
}

void RoundTripEngine(benchmark::State& state) {
  PinTo(/*last=*/false);
  Process process(2);
  Engine& from = *process.engines[0];
  Engine& to = *process.engines[1];
  bool answered = false;
  (void)to.On<Ping>([&](Ping ping, const MessageInfo& info) { (void)to.Reply(info, ping); });
  (void)from.On<Ping>([&](const Ping&, const MessageInfo&) { answered = true; });
  const Other other([&] { to.Poll(); });
  while (state.KeepRunning()) {
    answered = false;
    (void)from.Send(to.key(), Ping{});
    while (!answered) from.Poll();
  }
}

Advert AdvertOf(const SigningKey& topic) {
  const auto now = static_cast<std::uint64_t>(time(nullptr));
  return *Advert::Make(
      {.created = now, .expires = now + 86'400, .ttl = 300, .body = TopicBody{.open = true}},
      topic);
}

void Deliver(benchmark::State& state) {
  PinTo(/*last=*/false);
  // As many as are on their way, and no more: all inboxes together take 2 MB.
  Process process(kSubscribers + 1, {.inbox_messages = 16});
  const SigningKey topic = *SigningKey::Generate();
  absl::Status status = process.hub->SetTopic(AdvertOf(topic));
  Count handled;
  for (std::size_t i = 0; i < kSubscribers && status.ok(); ++i) {
    status = process.engines[i]->On<Ping>([&](const Ping&, const MessageInfo&) { handled.Add(); });
    status.Update(process.engines[i]->Join(topic.public_key()));
  }
  std::uint64_t sent = 0;
  const Other other([&] {
    for (std::size_t i = 0; i < kSubscribers; ++i) process.engines[i]->Poll();
  });
  while (status.ok() && state.KeepRunningBatch(kSubscribers)) {
    const auto published = process.engines[kSubscribers]->Publish(topic.public_key(), Ping{sent});
    if (!published.ok() || published->dropped > 0) status = Internal("a message was dropped");
    sent += kSubscribers;
    while (handled.get() + 4 * kSubscribers < sent) continue;
  }
  if (!status.ok()) return Skip(state, status);
  while (handled.get() < sent) continue;
}

/// A struct with a schema of its own; any would do. Numbers, so that nothing is read but them.
struct Reading {
  static constexpr MessageType kMessageType = 0x1001;
  std::uint64_t at = 0;
  std::uint64_t value = 0;

  absl::StatusOr<std::string> Encode() const {
    capnp::MallocMessageBuilder message;
    auto root = message.initRoot<wire::Envelope>();
    root.setCreated(at);
    root.setSequence(value);
    const auto words = capnp::messageToFlatArray(message);
    return std::string(reinterpret_cast<const char*>(words.asBytes().begin()),
                       words.asBytes().size());
  }
  static absl::StatusOr<Reading> Decode(std::string_view bytes) try {
    return Read(bytes);
  } catch (const kj::Exception& thrown) {
    return absl::InvalidArgumentError(thrown.getDescription().cStr());
  }
  static Reading Read(std::string_view bytes) {
    capnp::FlatArrayMessageReader reader(
        kj::arrayPtr(reinterpret_cast<const capnp::word*>(bytes.data()), bytes.size() / 8));
    const auto root = reader.getRoot<wire::Envelope>();
    return {.at = root.getCreated(), .value = root.getSequence()};
  }
};

EnvelopeFields FieldsOf(const PublicKey& to, std::string_view payload) {
  const auto now = static_cast<std::uint64_t>(time(nullptr)) * 1'000 + 30'000;
  return {.type = Reading::kMessageType,
          .destination = to,
          .sequence = 1,
          .created = now,
          .expires = now + 86'400'000,
          .payload = payload};
}

/// Every field of the envelope, and its payload, with Cap'n Proto and nothing else.
void ParseCapnp(benchmark::State& state) {
  const SigningKey key = *SigningKey::Generate();
  const std::string payload = *Reading{1, 2}.Encode();
  const std::string bytes = *messaging::EncodeUnsigned(FieldsOf(key.public_key(), payload));
  const std::string_view body = std::string_view(bytes).substr(messaging::kBodyAt);
  std::uint64_t sum = 0;
  while (state.KeepRunning()) {
    capnp::FlatArrayMessageReader reader(
        kj::arrayPtr(reinterpret_cast<const capnp::word*>(body.data()), body.size() / 8));
    const auto root = reader.getRoot<wire::Envelope>();
    PublicKey sender;
    PublicKey destination;
    std::memcpy(sender.bytes.data(), root.getSender().begin(), kKeyBytes);
    std::memcpy(destination.bytes.data(), root.getDestination().begin(), kKeyBytes);
    benchmark::DoNotOptimize(sender);
    benchmark::DoNotOptimize(destination);
    sum += root.getType() + root.getSequence() + root.getFirstSequence() + root.getCreated() +
           root.getExpires() + root.getInReplyTo() + root.getDestinationKind() + root.getFlags() +
           root.getDependencies().size();
    const auto data = root.getPayload();
    const Reading reading =
        Reading::Read({reinterpret_cast<const char*>(data.begin()), data.size()});
    sum += reading.at + reading.value;
  }
  benchmark::DoNotOptimize(sum);
}

/// The same bytes, from where the signature holds: checked, decoded and given to their handler.
void DecodeAndDispatch(benchmark::State& state) {
  Process process(1);
  auto& engine = static_cast<messaging::EngineImpl&>(*process.engines[0]);
  std::uint64_t sum = 0;
  (void)engine.On<Reading>(
      [&](const Reading& reading, const MessageInfo&) { sum += reading.at + reading.value; });
  const std::string payload = *Reading{1, 2}.Encode();
  const std::string bytes = *messaging::EncodeUnsigned(FieldsOf(engine.key(), payload));
  while (state.KeepRunning()) {
    const auto fields = messaging::ParseUnsigned(bytes);
    if (!fields.ok()) return Skip(state, fields.status());
    engine.Dispatch(*fields);
  }
  benchmark::DoNotOptimize(sum);
  if (engine.stats().handled != static_cast<std::uint64_t>(state.iterations()))
    state.SkipWithError("not every message was handled");
}

/// The whole way in, from the transport to the handler: 1,000 envelopes, each another one.
void DeliverRemote(benchmark::State& state, bool encrypted) {
  const SigningKey sender = *SigningKey::Generate();
  std::vector<SigningKey> keys;
  keys.push_back(*SigningKey::Generate());
  const ExchangeKey exchange = *ExchangeKey::Of(keys[0]);
  const std::string payload = *Reading{1, 2}.Encode();
  std::vector<std::string> envelopes;
  while (state.KeepRunningBatch(kBatch)) {
    state.PauseTiming();
    const auto hub = *MessageHub::Create();
    const auto engine = *Engine::Create(
        hub.get(), &keys[0], {.exchange_key = &exchange, .replay = {.first_start = true}});
    std::uint64_t handled = 0;
    (void)engine->On<Reading>([&](const Reading&, const MessageInfo&) { ++handled; });
    envelopes.clear();
    for (std::uint64_t i = 0; i < kBatch; ++i) {
      EnvelopeFields fields = FieldsOf(engine->key(), payload);
      fields.sequence = i;
      fields.encrypted = encrypted;
      envelopes.push_back(*SealEnvelope(fields, sender));
    }
    state.ResumeTiming();
    for (std::string& envelope : envelopes) {
      (void)hub->Deliver(std::move(envelope), Address());
      engine->Poll();
    }
    if (handled != kBatch) return state.SkipWithError("not every message was handled");
  }
}

void VerifySignature(benchmark::State& state) {
  const SigningKey key = *SigningKey::Generate();
  const std::string payload = *Reading{1, 2}.Encode();
  const std::string bytes = *messaging::EncodeUnsigned(FieldsOf(key.public_key(), payload));
  const Signature signature = *key.Sign(bytes);
  bool good = true;
  while (state.KeepRunning()) good = Verify(key.public_key(), bytes, signature) && good;
  if (!good) state.SkipWithError("a signature does not hold");
}

void AcceptOnce(benchmark::State& state) {
  const auto guard = *ReplayGuard::Create(0, {.first_start = true});
  EnvelopeFields fields = FieldsOf(PublicKey(), {});
  fields.sequence = 0;
  while (state.KeepRunning()) {
    ++fields.sequence;
    if (!guard->Accept(fields, Address(), fields.created).ok())
      return state.SkipWithError("it was refused");
  }
}

void RegisterAll() {
  const std::pair<const char*, std::function<void(benchmark::State&)>> all[] = {
      {"Queue/hand_over", HandOverQueue<BareQueue>},
      {"Queue/hand_over_single_writer", HandOverQueue<SingleWriterQueue>},
      {"Queue/round_trip", RoundTripQueue},
      {"Engine/hand_over", HandOverEngine},
      {"Engine/round_trip", RoundTripEngine},
      {"Topic/deliver_to_1000", Deliver},
      {"Capnp/parse", ParseCapnp},
      {"Engine/decode_and_dispatch", DecodeAndDispatch},
      {"Engine/deliver_remote", [](benchmark::State& s) { DeliverRemote(s, false); }},
      {"Engine/deliver_remote_encrypted", [](benchmark::State& s) { DeliverRemote(s, true); }},
      {"Envelope/verify_signature", VerifySignature},
      {"ReplayGuard/accept", AcceptOnce}};
  for (const auto& [name, function] : all)
    benchmark::RegisterBenchmark(name, function)->Unit(benchmark::kMicrosecond);
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  waxvm::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
