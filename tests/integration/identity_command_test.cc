// SPDX-License-Identifier: Apache-2.0
// waxvm key, cga, advert and name as a user runs them.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "command.h"
#include "src/identity/temp_folder_for_test.h"

namespace waxvm::integration {
namespace {

using identity::TempFolder;

constexpr char kKey[] = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
constexpr char kStart[] = "000102030405060708090a0b0c0d0e0f";

Completed Waxvm(const std::vector<std::string>& arguments, const std::string& input = "") {
  std::vector<std::string> all = {WAXVM_COMMAND};
  all.insert(all.end(), arguments.begin(), arguments.end());
  CommandOptions options;
  options.input = input;
  return RunCommand(all, options);
}

/// The fields of an object that was printed, as JSON texts.
std::map<std::string, std::string> Fields(const Completed& run) {
  EXPECT_EQ(run.exit_code, 0) << run.error;
  const auto fields = ParseJsonObject(run.output);
  EXPECT_TRUE(fields.has_value()) << run.output;
  return fields.value_or(std::map<std::string, std::string>());
}

/// A field that is a text, without its quotes.
std::string Text(const std::map<std::string, std::string>& fields, const std::string& name) {
  const auto found = fields.find(name);
  if (found == fields.end() || found->second.size() < 2) return "";
  return found->second.substr(1, found->second.size() - 2);
}

std::vector<std::string> Generate(const std::string& sec_code, const std::string& count) {
  return {"cga",
          "generate",
          std::string("--public-key=") + kKey,
          std::string("--modifier=") + kStart,
          "--sec-code=" + sec_code,
          "--collision-count=" + count,
          "--json"};
}

TEST(CgaCommand, GeneratesTheKnownAddresses) {
  const struct {
    const char* sec_code;
    const char* count;
    const char* address;
    const char* modifier;
    const char* hash2;
    const char* tries;
  } kCases[] = {{"0", "1", "fd32:cb53:7552:f2aa:802:1fe4:3ab1:bb26", kStart,
                 "d6e1a27cb662235e6d24d2804bce", "1"},
                {"3", "0", "fd32:cb53:7552:f2aa:6c06:2dd0:1938:fbf7", kStart,
                 "4e4b59b804375535fc59f6b75605", "1"},
                {"4", "0", "fd32:cb53:7552:f2aa:9050:8c4:c6cc:44d3",
                 "000102030405060708090a0b0c0d687c", "0000b1ab94c49a2e89d80436fa18", "23150"}};
  for (const auto& expected : kCases) {
    const auto fields = Fields(Waxvm(Generate(expected.sec_code, expected.count)));
    EXPECT_EQ(Text(fields, "address"), expected.address);
    EXPECT_EQ(Text(fields, "modifier"), expected.modifier);
    EXPECT_EQ(Text(fields, "hash2"), expected.hash2);
    EXPECT_EQ(fields.at("tries"), expected.tries);
  }
}

TEST(CgaCommand, VerifiesByItsExitCode) {
  const auto verify = [](const std::string& modifier, const std::string& count,
                         const std::string& address) {
    return Waxvm({"cga", "verify", std::string("--public-key=") + kKey, "--modifier=" + modifier,
                  "--collision-count=" + count, "--address=" + address});
  };
  const std::string address = "fd32:cb53:7552:f2aa:9050:8c4:c6cc:44d3";
  const std::string modifier = "000102030405060708090a0b0c0d687c";
  EXPECT_EQ(verify(modifier, "0", address).exit_code, 0);
  EXPECT_EQ(verify(modifier, "1", address).exit_code, 1);
  EXPECT_EQ(verify(modifier, "3", address).exit_code, 1);
  EXPECT_EQ(verify(kStart, "0", address).exit_code, 1);
  EXPECT_EQ(verify(modifier, "0", "fd32:cb53:7552:f2ab:9050:8c4:c6cc:44d3").exit_code, 1);
  EXPECT_EQ(verify("00", "0", address).exit_code, 125);
  EXPECT_EQ(verify(modifier, "0", "nonsense").exit_code, 125);
  EXPECT_EQ(Waxvm({"cga", "verify", std::string("--public-key=") + kKey}).exit_code, 125);
}

TEST(CgaCommand, TheExampleOfTheRfc) {
  const std::string key =
      "305c300d06092a864886f70d0101010500034b003048024100c2c2f137305454f10bd9cea36844b530e9211a4b26"
      "2b16467cb7dfba1f595c0194f275be5a4d386f2c3c2382508773c7867f9b3b9e63a09c7bc48f7a54ebefaf020301"
      "0001";
  const auto fields =
      Fields(Waxvm({"cga", "generate", "--public-key=" + key, "--prefix=fe80::",
                    "--modifier=89a8a8b2e858d8b8f2633f44d2d4ce9a", "--sec-code=1", "--json"}));
  EXPECT_EQ(Text(fields, "address"), "fe80::3c4a:5bf6:ffb4:ca6c");
  EXPECT_EQ(
      Waxvm({"cga", "verify", "--public-key=" + key, "--modifier=89a8a8b2e858d8b8f2633f44d2d4ce9b",
             "--collision-count=0", "--address=fe80::3c4a:5bf6:ffb4:ca6c"})
          .exit_code,
      0);
}

/// A store with the keys `node`, `host` and, of X25519, `tunnel`.
class Store : public testing::Test {
 protected:
  void SetUp() override {
    node_ = Text(Fields(Verb("key", "new", {"node"})), "public_key");
    host_ = Text(Fields(Verb("key", "new", {"host"})), "public_key");
    tunnel_ = Text(Fields(Verb("key", "new", {"--type=x25519", "tunnel"})), "public_key");
  }
  Completed Verb(const std::string& noun, const std::string& verb,
                 std::vector<std::string> arguments, const std::string& input = "") {
    arguments.insert(arguments.begin(), {noun, verb, "--store=" + folder_, "--json"});
    return Waxvm(arguments, input);
  }

  TempFolder temp_;
  std::string folder_ = temp_ / "keys";
  std::string node_, host_, tunnel_;
};

TEST_F(Store, Keys) {
  EXPECT_EQ(Text(Fields(Verb("key", "show", {})), "public_key"), node_);
  EXPECT_EQ(Text(Fields(Verb("key", "show", {"tunnel"})), "type"), "x25519");
  EXPECT_EQ(Text(Fields(Verb("key", "show", {"host"})), "base32").size(), 52u);
  EXPECT_EQ(Verb("key", "new", {"node"}).exit_code, 125) << "it must not be replaced";
  EXPECT_EQ(Verb("key", "show", {"nobody"}).exit_code, 125);
  ASSERT_EQ(chmod((folder_ + "/node.pem").c_str(), 0644), 0);
  const Completed loose = Verb("key", "show", {"node"});
  EXPECT_EQ(loose.exit_code, 125);
  EXPECT_NE(loose.error.find("0644"), std::string::npos) << loose.error;
}

TEST_F(Store, EveryTypeOfAdvert) {
  const std::string file = temp_ / "advert";
  const std::vector<std::vector<std::string>> kMakes = {
      {"--type=vm", "--host-key=host", "--service=coap,udp,5683", "--mailbox=" + host_},
      {"--type=host", "--key=host", "--tunnel-key=" + tunnel_, "--transport=udp,192.0.2.1,4500",
       "--transport=tcp,2001:db8::1,443,7", "--relays"},
      {"--type=topic", "--publisher=open", "--tag=weather"},
      {"--type=revocation", "--reason=retired"},
      {"--type=name", "--label=sensor", "--target=" + host_}};
  for (std::vector<std::string> make : kMakes) {
    make.insert(make.end(), {"--now=1800000000", "--sequence=5", "--ttl=1m", "--output=" + file});
    const auto made = Fields(Verb("advert", "make", make));
    const std::string digits = Text(made, "bytes");
    EXPECT_EQ(made.at("sequence"), "5");
    EXPECT_EQ(made.at("ttl"), "60");
    const std::string now = "--now=1800000100";
    EXPECT_EQ(Waxvm({"advert", "verify", now, file}).exit_code, 0) << make[0];
    EXPECT_EQ(Waxvm({"advert", "verify", now, digits}).exit_code, 0) << make[0];
    EXPECT_EQ(Waxvm({"advert", "verify", now, "-"}, digits + "\n").exit_code, 0) << make[0];
    EXPECT_EQ(Text(Fields(Waxvm({"advert", "show", "--json", file})), "type"), make[0].substr(7));
    std::string forged = digits;
    forged[200] = forged[200] == '0' ? '1' : '0';
    EXPECT_EQ(Waxvm({"advert", "verify", now, forged}).exit_code, 1) << make[0];
    if (make[0] == "--type=revocation") continue;
    EXPECT_EQ(Waxvm({"advert", "verify", "--now=1900000000", file}).exit_code, 1) << make[0];
  }
}

TEST_F(Store, NamesToAddresses) {
  const std::string vm = temp_ / "vm";
  const std::string label = temp_ / "label";
  const std::string now = "--now=1800000000";
  ASSERT_EQ(Verb("advert", "make",
                 {"--type=vm", "--key=node", "--host-key=host", now, "--service=coap,udp,5683",
                  "--output=" + vm})
                .exit_code,
            0);
  ASSERT_EQ(Verb("advert", "make",
                 {"--type=name", "--key=host", "--label=sensor", now, "--target=" + node_,
                  "--output=" + label})
                .exit_code,
            0);
  const auto name = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "name");
    arguments.insert(arguments.end(), {"--folder=" + temp_.path(), "--json"});
    return Waxvm(arguments);
  };
  EXPECT_EQ(name({"set", "alice", host_}).exit_code, 0);
  EXPECT_EQ(name({"resolve", "sensor.alice", now}).exit_code, 1) << "nothing is known yet";
  EXPECT_EQ(name({"set", "--advert=" + vm, "--advert=" + label, now}).exit_code, 0);
  const auto found = Fields(name({"resolve", "sensor.alice", now}));
  EXPECT_EQ(Text(found, "public_key"), node_);
  EXPECT_EQ(Text(found, "host"), host_);
  EXPECT_EQ(Text(found, "address"),
            Text(Fields(Waxvm({"advert", "show", "--json", vm})), "address"));
  EXPECT_EQ(name({"resolve", "sensor.alice", "--now=1900000000"}).exit_code, 1) << "expired";
  EXPECT_EQ(name({"resolve", "nobody", now}).exit_code, 1);
  EXPECT_EQ(name({"resolve", "a b", now}).exit_code, 125);
  EXPECT_NE(name({"list"}).output.find("\"alice\""), std::string::npos);
  EXPECT_EQ(name({"set", "--remove", "alice"}).exit_code, 0);
  EXPECT_EQ(name({"resolve", "sensor.alice", now}).exit_code, 1);
}

TEST_F(Store, WrongUsageIs125AndSaysWhatToDo) {
  const struct {
    std::vector<std::string> arguments;
    std::string text;
  } kCases[] = {{{"key"}, "there are new, show"},
                {{"key", "nwe"}, "there are new, show"},
                {{"key", "new", "--stroe=x"}, "did you mean --store?"},
                {{"key", "new", "--store=" + folder_, "../x"}, "is no name of a key"},
                {{"cga", "generate"}, "--public-key=HEX needs"},
                {{"cga", "generate", std::string("--public-key=") + kKey, "--sec-code=6"},
                 "not a whole number from 0 to 5"},
                {{"advert", "make", "--store=" + folder_}, "signature of its host"},
                {{"advert", "make", "--type=x", "--store=" + folder_}, "'x' is not vm"},
                {{"advert", "verify"}, "give one advert"},
                {{"advert", "verify", "/nonexistent"}, "cannot be read"}};
  for (const auto& wrong : kCases) {
    const Completed run = Waxvm(wrong.arguments);
    EXPECT_EQ(run.exit_code, 125) << wrong.text;
    EXPECT_EQ(run.output, "") << wrong.text;
    EXPECT_NE(run.error.find(wrong.text), std::string::npos) << run.error;
  }
  for (const char* noun : {"key", "cga", "advert", "name"})
    EXPECT_EQ(Waxvm({noun, "--help"}).exit_code, 0);
}

}  // namespace
}  // namespace waxvm::integration
