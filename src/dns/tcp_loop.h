// SPDX-License-Identifier: Apache-2.0
// Questions over TCP.
#ifndef WAXVM_SRC_DNS_TCP_LOOP_H_
#define WAXVM_SRC_DNS_TCP_LOOP_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "src/base/unique_fd.h"
#include "src/dns/service.h"
#include "src/dns/stream.h"

namespace waxvm::dns {

/// Thread safety: none; everything but the constructor runs on the server's TCP thread.
class TcpLoop {
 public:
  /// `events` is an epoll instance.
  TcpLoop(Service& service, UniqueFd events);

  /// Answers until the service stops.
  void Run();

 private:
  struct Connection {
    UniqueFd fd;
    PeerKey peer = {};
    std::uint32_t slot = 0;
    std::uint32_t generation = 0;  ///< tells it from one that had the slot before
    std::uint32_t interest = 0;
    Stream stream;
    std::vector<std::uint8_t> in = {};   ///< what is left of what was read
    std::vector<std::uint8_t> out = {};  ///< what the peer has not taken, from out_begin
    std::size_t out_begin = 0;
    bool pending = false;
    Clock::time_point last_question = {};
    std::optional<Clock::time_point> partial_since = {};
    std::optional<Clock::time_point> unsent_since = {};
    Clock::time_point pending_since = {};

    bool idle() const { return out.empty() && !pending; }
  };

  void Accept(std::size_t listener);
  bool AcceptOne(std::size_t listener);
  void Admit(UniqueFd fd, const Endpoint& peer);
  /// Closes what has been idle for longest, of one peer or of all; failing that, the oldest. False:
  /// there is none.
  bool Evict(const PeerKey* peer);

  void OnEvent(Connection& connection, std::uint32_t events);
  /// Takes what is there, answers it and sends the answers. False: the connection is to be closed.
  bool Read(Connection& connection);
  /// The same for what is in `input_` already; what is not taken is held.
  bool Process(Connection& connection, std::size_t bytes, bool final);
  /// The same for what is held.
  bool ProcessHeld(Connection& connection, bool final);
  /// Its next question waits for the source; `still`: as it did before.
  void Wait(Connection& connection, bool still);
  /// Sends what was held, and goes on.
  bool Flush(Connection& connection);
  /// Sends, and holds what is not taken. False: an error, or there is no memory for it.
  bool Send(Connection& connection, Bytes bytes);
  /// What the kernel took; nothing: an error.
  static std::optional<std::size_t> SendSome(const Connection& connection, Bytes bytes);
  bool Hold(std::vector<std::uint8_t>& buffer, Bytes bytes);
  /// What epoll is to tell about it.
  bool Watch(Connection& connection);
  void Close(std::uint32_t slot);

  /// Closes those whose time is over, and asks again for what is pending.
  void Tick(Clock::time_point now);
  bool IsOver(const Connection& connection, Clock::time_point now) const;
  int WaitMs() const;

  Service& service_;
  const UniqueFd events_;
  Scratch scratch_;
  std::vector<std::uint8_t> input_;
  std::vector<std::uint8_t> output_;
  std::vector<std::unique_ptr<Connection>> connections_;  ///< by slot
  std::vector<std::uint32_t> free_;
  std::size_t count_ = 0;
  std::size_t pending_ = 0;
  std::size_t held_bytes_ = 0;
  std::uint32_t next_generation_ = 0;
  bool accepting_ = true;
  Clock::time_point now_ = {};
  Clock::time_point next_tick_ = {};
};

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_TCP_LOOP_H_
