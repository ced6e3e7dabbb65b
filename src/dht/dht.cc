// SPDX-License-Identifier: Apache-2.0
#include "waxvm/dht.h"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <exception>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "libtorrent/alert_types.hpp"
#include "libtorrent/bencode.hpp"
#include "libtorrent/disabled_disk_io.hpp"
#include "libtorrent/entry.hpp"
#include "libtorrent/session.hpp"
#include "libtorrent/session_params.hpp"
#include "libtorrent/settings_pack.hpp"

namespace waxvm {
namespace {

namespace lt = libtorrent;
using SteadyClock = std::chrono::steady_clock;

constexpr std::size_t kMaxNetworkBytes = 64;
constexpr std::chrono::milliseconds kSettle{100};
constexpr std::chrono::milliseconds kPump{5};
// Answers that nobody waits for any more are dropped above this.
constexpr std::size_t kMaxAnswers = 1'024;
constexpr std::size_t kMaxPublished = 10'000;

const unsigned char* Raw(const std::string& bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

/// Where a slot is: the network's name is in it, so that it is in what BEP 44 signs as well.
std::string SaltOf(const std::string& network, const AdvertSlot& slot) {
  std::string text = "waxvm-dht-v1";
  text.push_back(static_cast<char>(network.size()));
  text.append(network);
  text.push_back(static_cast<char>(slot.type));
  text.append(slot.label);
  std::string salt(crypto_hash_sha256_BYTES, '\0');
  crypto_hash_sha256(reinterpret_cast<unsigned char*>(salt.data()), Raw(text), text.size());
  return salt;
}

std::array<char, 32> KeyOf(const PublicKey& key) {
  std::array<char, 32> bytes;
  std::copy(key.bytes.begin(), key.bytes.end(), bytes.begin());
  return bytes;
}

/// What a mutable item's signature covers. Spec: BEP 44.
std::string SignedBytes(const std::string& salt, std::uint64_t sequence, const std::string& value) {
  return absl::StrFormat("4:salt%d:%s3:seqi%de1:v%d:%s", salt.size(), salt, sequence, value.size(),
                         value);
}

lt::settings_pack Settings(const DhtOptions& options) {
  using Pack = lt::settings_pack;
  Pack pack;
  pack.set_int(Pack::alert_mask, lt::alert_category::dht | lt::alert_category::error);
  pack.set_str(Pack::listen_interfaces, options.listen);
  pack.set_str(Pack::dht_bootstrap_nodes, "");
  pack.set_bool(Pack::enable_dht, true);
  for (const auto feature :
       {Pack::enable_lsd, Pack::enable_upnp, Pack::enable_natpmp, Pack::enable_ip_notifier,
        Pack::enable_outgoing_tcp, Pack::enable_incoming_tcp, Pack::enable_outgoing_utp,
        Pack::enable_incoming_utp})
    pack.set_bool(feature, false);
  pack.set_int(Pack::dht_search_branching, 16);
  pack.set_int(Pack::dht_max_fail_count, 2);
  // Finite, so that a flood of puts takes bounded memory.
  pack.set_int(Pack::dht_max_dht_items, 20'000);
  if (!options.lab) {
    pack.set_int(Pack::dht_upload_rate_limit, 64'000);
    pack.set_int(Pack::dht_block_ratelimit, 50);
    return pack;
  }
  for (const auto rule : {Pack::dht_restrict_routing_ips, Pack::dht_restrict_search_ips,
                          Pack::dht_ignore_dark_internet, Pack::dht_enforce_node_id,
                          Pack::dht_prefer_verified_node_ids})
    pack.set_bool(rule, false);
  pack.set_int(Pack::dht_upload_rate_limit, 100'000'000);
  pack.set_int(Pack::dht_block_ratelimit, 1'000'000);
  return pack;
}

class MainlineDht final : public Dht {
 public:
  MainlineDht(lt::session_params parameters, const DhtOptions& options)
      : options_(options), session_(std::move(parameters)) {}

  std::uint16_t port() const override { return session_.listen_port(); }

  void AddNode(const std::string& host, std::uint16_t port) override {
    session_.add_dht_node({host, port});
  }

  absl::Status Publish(const Advert& advert, const Signer& author,
                       std::chrono::milliseconds limit) override {
    const auto deadline = SteadyClock::now() + limit;
    if (author.public_key() != advert.fields().author)
      return absl::InvalidArgumentError("only its author can publish an advert");
    Item item = {.key = KeyOf(author.public_key()),
                 .salt = SaltOf(options_.network, advert.slot()),
                 .sequence = static_cast<std::int64_t>(advert.fields().sequence),
                 .value = advert.bytes(),
                 .expires = advert.fields().expires};
    const auto signature =
        author.Sign(SignedBytes(item.salt, advert.fields().sequence, item.value));
    if (!signature.ok()) return signature.status();
    std::copy(signature->bytes.begin(), signature->bytes.end(), item.signature.begin());
    const Place place = {item.key, item.salt};
    {
      const std::lock_guard lock(mutex_);
      puts_.erase(place);
    }
    Put(item);
    const absl::Status put = Await(deadline, [&] { return puts_.count(place) != 0; });
    if (!put.ok()) return put;
    {
      const std::lock_guard lock(mutex_);
      if (puts_[place] == 0) return absl::UnavailableError("no node of the DHT took the advert");
    }
    // An equal sequence with another value is reported as taken, too.
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SteadyClock::now());
    const auto back = Fetch(advert.slot(), std::max(left, kPump));
    if (!back.ok()) return back.status();
    if (*back != item.value)
      return absl::AbortedError("the DHT has another advert with this or a higher sequence");
    Keep(place, std::move(item));
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Fetch(const AdvertSlot& slot,
                                    std::chrono::milliseconds limit) override {
    const auto deadline = SteadyClock::now() + limit;
    const Place place = {KeyOf(slot.author), SaltOf(options_.network, slot)};
    {
      const std::lock_guard lock(mutex_);
      answers_.erase(place);
    }
    session_.dht_get_item(place.first, place.second);
    const absl::Status status = Await(deadline, [&] {
      const auto found = answers_.find(place);
      if (found == answers_.end()) return false;
      const Answer& answer = found->second;
      return answer.last || (answer.value && SteadyClock::now() - answer.first >= kSettle);
    });
    const std::lock_guard lock(mutex_);
    const auto found = answers_.find(place);
    if (found == answers_.end() || !found->second.value) {
      if (!status.ok()) return status;
      return absl::NotFoundError("the DHT has no such advert");
    }
    return *found->second.value;
  }

  std::size_t Republish(std::uint64_t now) override {
    std::vector<Item> due;
    {
      const std::lock_guard lock(mutex_);
      for (auto at = published_.begin(); at != published_.end();) {
        Item& item = at->second;
        if (item.expires <= now) {
          at = published_.erase(at);
          continue;
        }
        if (item.next == 0) item.next = NextAfter(now);
        if (item.next <= now) {
          item.next = NextAfter(now);
          due.push_back(item);
        }
        ++at;
      }
    }
    for (const Item& item : due) Put(item);
    Pump();
    return due.size();
  }

 private:
  using Place = std::pair<std::array<char, 32>, std::string>;
  struct Item {
    std::array<char, 32> key{};
    std::string salt;
    std::int64_t sequence = 0;
    std::string value;
    std::array<char, 64> signature{};
    std::uint64_t expires = 0;
    std::uint64_t next = 0;  ///< when it is put again; 0: not known yet
  };
  struct Answer {
    std::optional<std::string> value;
    std::int64_t sequence = -1;
    bool last = false;
    SteadyClock::time_point first;
  };

  std::uint64_t NextAfter(std::uint64_t now) const {
    const auto every = static_cast<std::uint64_t>(options_.republish_every.count());
    // Not all of a network at once.
    return now + every + randombytes_uniform(static_cast<std::uint32_t>(every / 10 + 1));
  }

  void Put(const Item& item) {
    session_.dht_put_item(
        item.key,
        [value = item.value, signature = item.signature, sequence = item.sequence](
            lt::entry& to, std::array<char, 64>& by, std::int64_t& number, const std::string&) {
          to = lt::entry(value);
          by = signature;
          number = sequence;
        },
        item.salt);
  }

  void Keep(const Place& place, Item item) {
    const std::lock_guard lock(mutex_);
    if (published_.size() < kMaxPublished || published_.count(place) != 0)
      published_[place] = std::move(item);
  }

  /// Sorts what libtorrent has to say to whoever waits for it.
  void Pump() {
    const std::lock_guard lock(mutex_);
    std::vector<lt::alert*> alerts;
    session_.pop_alerts(&alerts);
    for (const lt::alert* alert : alerts) {
      if (const auto* put = lt::alert_cast<lt::dht_put_alert>(alert)) {
        if (puts_.size() >= kMaxAnswers) puts_.clear();
        puts_[{put->public_key, put->salt}] = put->num_success;
      }
      if (const auto* item = lt::alert_cast<lt::dht_mutable_item_alert>(alert)) Take(*item);
    }
  }

  void Take(const lt::dht_mutable_item_alert& item) {
    if (answers_.size() >= kMaxAnswers) answers_.clear();
    Answer& answer = answers_[{item.key, item.salt}];
    answer.last |= item.authoritative;
    if (item.item.type() != lt::entry::string_t || item.seq <= answer.sequence) return;
    const std::string& value = item.item.string();
    if (value.size() > kMaxAdvertBytes) return;
    if (!answer.value) answer.first = SteadyClock::now();
    answer.value = value;
    answer.sequence = item.seq;
  }

  template <typename Done>
  absl::Status Await(SteadyClock::time_point deadline, Done done) {
    for (;;) {
      Pump();
      {
        const std::lock_guard lock(mutex_);
        if (done()) return absl::OkStatus();
      }
      if (SteadyClock::now() >= deadline)
        return absl::DeadlineExceededError("the DHT did not answer in time");
      session_.wait_for_alert(kPump);
    }
  }

  const DhtOptions options_;
  lt::session session_;
  std::mutex mutex_;
  std::map<Place, int> puts_;  ///< how many nodes took it
  std::map<Place, Answer> answers_;
  std::map<Place, Item> published_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Dht>> Dht::Start(const DhtOptions& options) {
  if (options.network.size() > kMaxNetworkBytes)
    return absl::InvalidArgumentError(absl::StrFormat("the network's name has %d bytes, at most %d",
                                                      options.network.size(), kMaxNetworkBytes));
  if (sodium_init() < 0) return absl::UnavailableError("libsodium could not be initialised");
  try {
    lt::session_params parameters(Settings(options));
    parameters.disk_io_constructor = lt::disabled_disk_io_constructor;
    return std::make_unique<MainlineDht>(std::move(parameters), options);
  } catch (const std::exception& error) {
    return absl::UnavailableError(absl::StrFormat("libtorrent: %s", error.what()));
  }
}

}  // namespace waxvm
