// SPDX-License-Identifier: Apache-2.0
// Questions over UDP, in batches.
#ifndef WAXVM_SRC_DNS_UDP_LOOP_H_
#define WAXVM_SRC_DNS_UDP_LOOP_H_

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "src/dns/service.h"

namespace waxvm::dns {

/// Thread safety: none; everything but the constructor runs on the server's UDP thread.
class UdpLoop {
 public:
  explicit UdpLoop(Service& service);

  /// Answers until the service stops.
  void Run();

 private:
  static constexpr std::size_t kBatch = 64;
  static constexpr std::size_t kControlBytes = 64;

  /// A question that the source is still looking for the answer to.
  struct Pending {
    std::size_t listener;
    Endpoint peer;
    std::array<char, kControlBytes> control;
    std::size_t control_bytes;
    std::string query;
    Clock::time_point deadline;
  };

  /// Receives and answers one batch. Returns whether there may be more.
  bool ServeBatch(std::size_t listener);
  void AnswerOne(std::size_t listener, std::size_t slot);
  /// Queues the answer that was written, to where the message came from.
  void Queue(const msghdr& from, std::size_t bytes);
  void Send(int fd);
  void Keep(std::size_t listener, const msghdr& from, Bytes query);
  void AskAgain();
  Asked How(std::size_t listener, bool final) const;
  void ResetMessage(std::size_t slot);

  Service& service_;
  Scratch scratch_;
  std::vector<std::size_t> max_bytes_;  ///< of an answer, by listener
  std::size_t most_bytes_ = 0;          ///< the largest of them

  std::unique_ptr<std::uint8_t[]> in_;
  std::array<mmsghdr, kBatch> received_ = {};
  std::array<iovec, kBatch> in_parts_ = {};
  std::array<sockaddr_storage, kBatch> peers_ = {};
  alignas(cmsghdr) std::array<std::array<char, kControlBytes>, kBatch> controls_ = {};

  std::unique_ptr<std::uint8_t[]> out_;
  std::size_t out_used_ = 0;
  std::array<mmsghdr, kBatch> answers_ = {};
  std::array<iovec, kBatch> out_parts_ = {};
  std::size_t queued_ = 0;

  std::vector<Pending> pending_;
  Clock::time_point ask_again_at_ = {};
};

}  // namespace waxvm::dns

#endif  // WAXVM_SRC_DNS_UDP_LOOP_H_
