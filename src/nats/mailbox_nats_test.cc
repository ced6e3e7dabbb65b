// SPDX-License-Identifier: Apache-2.0
// Mailboxes on a cluster of three servers of this host, one of which is killed.
#include "waxvm/mailbox_nats.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nats/nats.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <map>
#include <set>
#include <thread>

#include "absl/strings/str_format.h"
#include "src/identity/temp_folder_for_test.h"

namespace waxvm {
namespace {

using identity::TempFolder;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using SteadyClock = std::chrono::steady_clock;

/// A port that nobody has at the moment.
int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  int port = 0;
  if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0)
    port = ntohs(address.sin_port);
  close(fd);
  return port;
}

class Cluster {
 public:
  static constexpr int kServers = 3;

  Cluster() {
    std::vector<int> route_ports;
    for (int i = 0; i < kServers; ++i) {
      ports_.push_back(FreePort());
      route_ports.push_back(FreePort());
    }
    std::string routes;
    for (const int port : route_ports)
      routes += absl::StrFormat("%s\"nats://127.0.0.1:%d\"", routes.empty() ? "" : ", ", port);
    for (int i = 0; i < kServers; ++i) {
      const std::string file = temp_ / absl::StrFormat("s%d.conf", i);
      std::ofstream(file) << absl::StrFormat(
          "server_name: s%d\nlisten: \"127.0.0.1:%d\"\n"
          "jetstream { store_dir: \"%s/s%d\", max_memory_store: 64MB, max_file_store: 1GB }\n"
          "cluster { name: waxvm-test, listen: \"127.0.0.1:%d\", routes: [%s] }\n",
          i, ports_[i], temp_.path(), i, route_ports[i], routes);
      Start(i);
    }
  }
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;
  ~Cluster() {
    for (int i = 0; i < kServers; ++i) Kill(i);
  }

  void Start(int i) {
    std::string file = temp_ / absl::StrFormat("s%d.conf", i);
    std::string log = temp_ / absl::StrFormat("s%d.log", i);
    std::string program = WAXVM_NATS_SERVER;
    std::string flag = "-c";
    std::string log_flag = "-l";
    char* const arguments[] = {program.data(),  flag.data(), file.data(),
                               log_flag.data(), log.data(),  nullptr};
    pid_t pid = 0;
    ASSERT_EQ(posix_spawn(&pid, program.c_str(), nullptr, nullptr, arguments, environ), 0);
    pids_[i] = pid;
  }
  void Kill(int i) {
    const auto found = pids_.find(i);
    if (found == pids_.end()) return;
    kill(found->second, SIGKILL);
    waitpid(found->second, nullptr, 0);
    pids_.erase(found);
  }
  std::vector<std::string> urls() const {
    std::vector<std::string> all;
    for (const int port : ports_) all.push_back(absl::StrFormat("nats://127.0.0.1:%d", port));
    return all;
  }

  /// The number of the server that leads a stream; -1 where nobody does.
  int LeaderOf(const std::string& stream) const {
    natsConnection* connection = nullptr;
    jsCtx* context = nullptr;
    jsStreamInfo* info = nullptr;
    int leader = -1;
    std::string all;
    for (const std::string& url : urls()) all += (all.empty() ? "" : ",") + url;
    if (natsConnection_ConnectTo(&connection, all.c_str()) == NATS_OK &&
        natsConnection_JetStream(&context, connection, nullptr) == NATS_OK &&
        js_GetStreamInfo(&info, context, stream.c_str(), nullptr, nullptr) == NATS_OK &&
        info->Cluster != nullptr && info->Cluster->Leader != nullptr)
      leader = info->Cluster->Leader[1] - '0';
    jsStreamInfo_Destroy(info);
    jsCtx_Destroy(context);
    natsConnection_Destroy(connection);
    return leader;
  }

 private:
  TempFolder temp_;
  std::vector<int> ports_;
  std::map<int, pid_t> pids_;
};

/// One cluster for all tests: its first election takes seconds.
class NatsMailboxes : public testing::Test {
 protected:
  static void SetUpTestSuite() { cluster_ = std::make_unique<Cluster>(); }
  static void TearDownTestSuite() { cluster_.reset(); }

  static absl::StatusOr<std::unique_ptr<MailboxStore>> Open(const std::string& prefix,
                                                            milliseconds lease = seconds(30)) {
    const NatsMailboxOptions options = {.servers = cluster_->urls(),
                                        .prefix = prefix,
                                        .lease = lease,
                                        .timeout = milliseconds(2'000),
                                        .receipt_secret = "shared"};
    return OpenNatsMailboxes(options);
  }
  /// Until there is a leader, which is soon.
  static absl::Status CreateSoon(MailboxStore& store, const std::string& name,
                                 const MailboxOptions& options) {
    const auto deadline = SteadyClock::now() + seconds(40);
    for (;;) {
      absl::Status status = store.Create(name, options);
      if (!absl::IsUnavailable(status) || SteadyClock::now() > deadline) return status;
      std::this_thread::sleep_for(milliseconds(200));
    }
  }
  static std::unique_ptr<MailboxStore> NewStore(const std::string& prefix,
                                                milliseconds lease = seconds(30)) {
    const auto deadline = SteadyClock::now() + seconds(20);
    for (;;) {
      auto store = Open(prefix, lease);
      if (store.ok()) return *std::move(store);
      if (SteadyClock::now() > deadline) {
        ADD_FAILURE() << store.status();
        return nullptr;
      }
      std::this_thread::sleep_for(milliseconds(100));
    }
  }
  static std::vector<Delivery> Take(MailboxStore& store, const std::string& mailbox,
                                    milliseconds lease, milliseconds wait = milliseconds(0),
                                    const std::string& group = "") {
    const auto got = store.Receive(
        {.mailbox = mailbox, .group = group, .max_messages = 100, .lease = lease, .wait = wait});
    EXPECT_TRUE(got.ok()) << got.status();
    return got.ok() ? *got : std::vector<Delivery>();
  }

  static std::unique_ptr<Cluster> cluster_;
};
std::unique_ptr<Cluster> NatsMailboxes::cluster_;

TEST_F(NatsMailboxes, LoseNothingWhenTheLeaderIsKilled) {
  constexpr int kMessages = 300;
  auto store = NewStore("kill");
  ASSERT_NE(store, nullptr);
  const absl::Status created = CreateSoon(*store, "bob", {});
  ASSERT_TRUE(created.ok()) << created;
  std::vector<std::uint64_t> sequences;
  int leader = -1;
  int retries = 0;
  for (int i = 0; i < kMessages; ++i) {
    if (i == kMessages / 3) {
      leader = cluster_->LeaderOf("kill-box-bob");
      ASSERT_GE(leader, 0);
      cluster_->Kill(leader);
    }
    const auto deadline = SteadyClock::now() + seconds(40);
    for (;; ++retries) {
      const auto appended = store->AppendOne(MailboxMessage{.mailbox = "bob",
                                                            .sender = "alice",
                                                            .payload = std::to_string(i),
                                                            .idempotency_key = std::to_string(i)});
      if (appended.ok()) {
        sequences.push_back(appended->sequence);
        break;
      }
      ASSERT_TRUE(absl::IsUnavailable(appended.status())) << appended.status();
      ASSERT_LT(SteadyClock::now(), deadline) << appended.status();
      std::this_thread::sleep_for(milliseconds(50));
    }
  }
  EXPECT_TRUE(std::is_sorted(sequences.begin(), sequences.end()));
  std::set<int> found;
  std::uint64_t last = 0;
  const auto deadline = SteadyClock::now() + seconds(40);
  while (found.size() < kMessages && SteadyClock::now() < deadline) {
    const auto got = store->Receive({.mailbox = "bob", .max_messages = 100, .wait = seconds(1)});
    if (!got.ok()) continue;
    for (const Delivery& delivery : *got) {
      EXPECT_TRUE(found.insert(std::stoi(delivery.payload)).second) << delivery.payload << " twice";
      EXPECT_GT(delivery.sequence, last);
      last = delivery.sequence;
      absl::Status done;
      do done = store->Acknowledge(delivery.receipt);
      while (!done.ok() && SteadyClock::now() < deadline);
      EXPECT_TRUE(done.ok()) << done;
    }
  }
  EXPECT_EQ(found.size(), static_cast<std::size_t>(kMessages)) << "acknowledged, and lost";
  cluster_->Start(leader);
  const auto empty = SteadyClock::now() + seconds(10);
  while (SteadyClock::now() < empty) {
    const auto info = store->Info("bob");
    if (info.ok() && info->messages == 0) break;
  }
  EXPECT_EQ(store->Info("bob")->messages, 0u);
  EXPECT_TRUE(store->Remove("bob").ok());
  EXPECT_GT(retries, 0) << "nobody noticed";
}

TEST_F(NatsMailboxes, LeaseRejectAndBury) {
  constexpr milliseconds kLease{4'000};  // a machine under load takes its time as well
  constexpr milliseconds kBackOff{1'000};
  auto store = NewStore("lease", kLease);
  ASSERT_NE(store, nullptr);
  const absl::Status created =
      CreateSoon(*store, "a.b:c", {.max_deliveries = 2, .first_back_off = kBackOff});
  ASSERT_TRUE(created.ok()) << created;
  EXPECT_TRUE(absl::IsAlreadyExists(store->Create("a.b:c", {})));
  EXPECT_EQ(*store->List(), std::vector<std::string>{"a.b:c"});
  const std::string bytes("\0\xff\n", 3);
  const auto first = store->AppendOne(MailboxMessage{.mailbox = "a.b:c",
                                                     .sender = bytes,
                                                     .payload = bytes,
                                                     .idempotency_key = bytes,
                                                     .ordering_key = bytes,
                                                     .format = 60});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(*store->AppendOne(
                MailboxMessage{.mailbox = "a.b:c", .sender = bytes, .idempotency_key = bytes}),
            (Appended{first->sequence, true}));
  auto got = Take(*store, "a.b:c", kLease, seconds(5));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].payload, bytes);
  EXPECT_EQ(got[0].sender, bytes);
  EXPECT_EQ(got[0].ordering_key, bytes);
  EXPECT_EQ(got[0].format, 60);
  EXPECT_EQ(got[0].deliveries, 1u);
  const auto rejected = SteadyClock::now();
  EXPECT_TRUE(store->Reject(got[0].receipt, "busy").ok());
  got = Take(*store, "a.b:c", kLease, seconds(20));
  EXPECT_GE(SteadyClock::now() - rejected, kBackOff) << "it was put off";
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].deliveries, 2u);
  // Never acknowledged: whoever asks next finds that it died.
  EXPECT_TRUE(Take(*store, "a.b:c", kLease, seconds(8)).empty());
  auto dead = store->DeadLetters("a.b:c", 10);
  ASSERT_TRUE(dead.ok()) << dead.status();
  ASSERT_EQ(dead->size(), 1u);
  EXPECT_EQ(dead->front().message.payload, bytes);
  EXPECT_EQ(dead->front().message.sequence, first->sequence);
  EXPECT_THAT(dead->front().reason, HasSubstr("2 times"));
  EXPECT_EQ(store->Info("a.b:c")->messages, 0u);
  EXPECT_TRUE(store->Requeue("a.b:c", dead->front().id).ok());
  got = Take(*store, "a.b:c", kLease, seconds(5));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(store
                  ->Settle({{.kind = Settlement::Kind::kDead,
                             .receipt = got[0].receipt,
                             .reason = "no good"}})[0]
                  .ok());
  dead = store->DeadLetters("a.b:c", 10);
  ASSERT_EQ(dead->size(), 1u);
  EXPECT_EQ(dead->front().reason, "no good");
  EXPECT_TRUE(store->RemoveDead("a.b:c", dead->front().id).ok());
  EXPECT_TRUE(absl::IsNotFound(store->RemoveDead("a.b:c", dead->front().id)));
}

TEST_F(NatsMailboxes, TopicsLimitsAndWhatIsNotOffered) {
  constexpr milliseconds kLease{30'000};
  auto store = NewStore("rest");
  ASSERT_NE(store, nullptr);
  ASSERT_TRUE(CreateSoon(*store, "t", {.topic = true}).ok());
  ASSERT_TRUE(CreateSoon(*store, "small", {.strict = true, .max_messages = 2}).ok());
  ASSERT_TRUE(store->Subscribe("t", "one", false).ok());
  ASSERT_TRUE(store->Subscribe("t", "two", false).ok());
  ASSERT_TRUE(store->AppendOne(MailboxMessage{.mailbox = "t", .payload = "x"}).ok());
  for (const char* group : {"one", "two"}) {
    const auto got = Take(*store, "t", kLease, seconds(5), group);
    ASSERT_EQ(got.size(), 1u) << group;
    EXPECT_TRUE(store->Acknowledge(got[0].receipt).ok());
  }
  EXPECT_EQ(store->Info("t")->groups.size(), 2u);
  EXPECT_TRUE(store->Unsubscribe("t", "two").ok());
  EXPECT_TRUE(absl::IsNotFound(store->Receive({.mailbox = "t", .group = "two"}).status()));

  for (const char* payload : {"1", "2"})
    ASSERT_TRUE(store->AppendOne(MailboxMessage{.mailbox = "small", .payload = payload}).ok());
  const auto full = store->AppendOne(MailboxMessage{.mailbox = "small", .payload = "3"});
  EXPECT_TRUE(absl::IsResourceExhausted(full.status())) << full.status();
  const auto strict = Take(*store, "small", kLease, seconds(5));
  ASSERT_EQ(strict.size(), 1u) << "one at a time";
  EXPECT_TRUE(Take(*store, "small", kLease).empty());
  EXPECT_TRUE(store->Acknowledge(strict[0].receipt).ok());
  EXPECT_EQ(Take(*store, "small", kLease, seconds(5)).size(), 1u);

  std::string forged = strict[0].receipt;
  forged.back() = forged.back() == '0' ? '1' : '0';
  EXPECT_TRUE(absl::IsPermissionDenied(store->Acknowledge(forged)));
  EXPECT_TRUE(absl::IsPermissionDenied(store->Acknowledge("$JS.API.STREAM.DELETE.rest-box-t")));
  EXPECT_TRUE(absl::IsUnimplemented(store->Exchange({}, {}).status()));
  EXPECT_TRUE(
      absl::IsUnimplemented(store->Receive({.mailbox = "small", .lease = seconds(1)}).status()));
  EXPECT_TRUE(absl::IsUnimplemented(store->Extend(strict[0].receipt, seconds(1))));
  EXPECT_TRUE(absl::IsUnimplemented(
      store->AppendOne(MailboxMessage{.mailbox = "t", .time_to_live = seconds(1)}).status()));
  EXPECT_TRUE(absl::IsNotFound(store->AppendOne(MailboxMessage{.mailbox = "none"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store->AppendOne(MailboxMessage{.mailbox = "a/b"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(store->Create("x>y", {})));
}

TEST(NatsMailboxesAlone, NobodyThere) {
  const auto nobody =
      OpenNatsMailboxes({.servers = {absl::StrFormat("nats://127.0.0.1:%d", FreePort())},
                         .timeout = milliseconds(300)});
  EXPECT_TRUE(absl::IsUnavailable(nobody.status())) << nobody.status();
  EXPECT_TRUE(absl::IsInvalidArgument(OpenNatsMailboxes({.prefix = "a.b"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(OpenNatsMailboxes({.replicas = 2}).status()));
}

}  // namespace
}  // namespace waxvm
