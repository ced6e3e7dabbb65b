// SPDX-License-Identifier: Apache-2.0
#include "src/root_image/tar_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "src/root_image/tar_builder_for_test.h"

namespace waxvm::root_image {
namespace {

using ::testing::HasSubstr;
using Code = absl::StatusCode;

std::span<const std::byte> AsBytes(const std::string& text) {
  return std::as_bytes(std::span<const char>(text));
}

/// Reads layers that the test builds, and keeps their bytes for as long as the tree.
class TarReader : public ::testing::Test {
 protected:
  absl::Status Read(const std::vector<std::string>& layers, std::uint64_t max_entries = 10'000) {
    layers_ = layers;
    TreeBuilder builder(max_entries);
    for (const std::string& layer : layers_) {
      builder.BeginLayer();
      const absl::Status status = ReadTar(AsBytes(layer), builder);
      if (!status.ok()) return status;
    }
    tree_ = std::move(builder).Finish();
    return absl::OkStatus();
  }
  absl::Status Read(const TarBuilder& layer) { return Read({layer.Bytes()}); }

  const Node* Find(std::string_view path) const {
    const auto node = tree_->Resolve(path);
    return node.ok() ? *node : nullptr;
  }
  /// What a file holds, "(none)" where there is no such file.
  std::string Text(std::string_view path) const {
    const Node* node = Find(path);
    if (node == nullptr || node->kind != Node::Kind::kFile) return "(none)";
    std::string text(node->contents.size(), '?');
    EXPECT_EQ(node->contents.Read(0, std::as_writable_bytes(std::span(text))), text.size());
    return text;
  }
  void ExpectError(const TarBuilder& layer, Code code, const std::string& message) {
    const absl::Status status = Read(layer);
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(message));
  }

  std::vector<std::string> layers_;
  std::optional<Tree> tree_;
};

TEST_F(TarReader, FilesDirectoriesAndLinks) {
  const std::string big(100'000, 'b');
  ASSERT_TRUE(Read(TarBuilder()
                       .set_owner(1000)
                       .Directory("./")
                       .Directory("./bin/", 01750)
                       .File("./bin/tool", big, 04755)
                       .Link("bin/link", "tool")
                       .HardLink("bin/second", "./bin/tool")
                       .File("empty", "")
                       .File("deep/er/file", "x"))
                  .ok());
  EXPECT_EQ(Text("/bin/tool"), big);
  EXPECT_EQ(Text("bin/../bin//link"), big);
  EXPECT_EQ(Text("empty"), "");
  EXPECT_EQ(Text("deep/er/file"), "x");
  EXPECT_EQ(Find("bin/second"), Find("bin/tool"));
  const Node& tool = *Find("bin/tool");
  EXPECT_EQ(tool.mode(), S_IFREG | 04755u);
  EXPECT_EQ(tool.owner, 1000u);
  EXPECT_EQ(tool.links, 2u);
  EXPECT_EQ(tool.modified.tv_sec, 1'000'000'000);
  EXPECT_EQ(Find("bin")->mode(), S_IFDIR | 01750u);
  EXPECT_EQ(tree_->root().links, 4u);  // ., .., bin, deep
  EXPECT_EQ(tree_->entries(), 8u);
}

TEST_F(TarReader, NamesAreBytes) {
  const std::string decomposed = "e\xcc\x81", composed = "\xc3\xa9", latin = "\xe9";
  const std::string long_name = std::string(200, 'n') + "/" + std::string(255, 'm');
  ASSERT_TRUE(Read(TarBuilder()
                       .Pax("path", decomposed)
                       .File("a", "1")
                       .Pax("path", composed)
                       .File("a", "2")
                       .File(latin, "3")
                       .Add({.name = "././@LongLink", .type = 'L', .data = long_name + '\0'})
                       .File("cut", "4")
                       .Add({.name = "././@LongLink", .type = 'K', .data = long_name + '\0'})
                       .Link("long", "cut"))
                  .ok());
  EXPECT_EQ(Text(decomposed), "1");
  EXPECT_EQ(Text(composed), "2");
  EXPECT_EQ(Text(latin), "3");
  EXPECT_EQ(Text(long_name), "4");
  EXPECT_EQ(Text("long"), "4");
}

TEST_F(TarReader, NumbersInEveryForm) {
  const std::string base256 = std::string("\x80\0\0\0\0\0\0\0\0\0\0\x03", 12);
  ASSERT_TRUE(Read(TarBuilder()
                       .Add({.name = "base256", .data = "abc", .size = base256})
                       .Add({.name = "spaces", .data = "ab", .size = "         2  "})
                       .Pax("size", "4")
                       .Add({.name = "pax", .data = "abcd", .size = "00000000000 "})
                       .Pax("mtime", "-1.25")
                       .File("early", "")
                       .Pax("uid", "4000000000")
                       .Add({.name = "v7", .type = '\0', .data = "7", .ustar = false}))
                  .ok());
  EXPECT_EQ(Text("base256"), "abc");
  EXPECT_EQ(Text("spaces"), "ab");
  EXPECT_EQ(Text("pax"), "abcd");
  EXPECT_EQ(Text("v7"), "7");
  EXPECT_EQ(Find("v7")->owner, 4'000'000'000u);
  EXPECT_EQ(Find("early")->modified.tv_sec, -2);
  EXPECT_EQ(Find("early")->modified.tv_nsec, 750'000'000);
}

TEST_F(TarReader, AnArchiveMayEndWithoutItsMark) {
  const std::string bytes = TarBuilder().File("a", "1").WithoutEnd();
  ASSERT_TRUE(Read({bytes}).ok());
  EXPECT_EQ(Text("a"), "1");
  ASSERT_TRUE(Read({std::string(1024, '\0')}).ok());
  EXPECT_EQ(tree_->entries(), 0u);
}

TEST_F(TarReader, TruncatedAtAnyByteIsDataLossOrTheFilesBefore) {
  const std::string bytes =
      TarBuilder().File("a", std::string(700, 'a')).File("b", "b").WithoutEnd();
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const absl::Status status = Read({bytes.substr(0, n)});
    if (!status.ok()) {
      EXPECT_EQ(status.code(), Code::kDataLoss) << n << ": " << status;
    } else if (n > 0) {
      EXPECT_EQ(Text("a"), std::string(700, 'a')) << n;
    }
  }
}

TEST_F(TarReader, AFlippedBitInAHeaderIsDataLoss) {
  const std::string good = TarBuilder().File("file", "data").Bytes();
  for (std::size_t bit = 0; bit < 500 * 8; bit += 37) {
    std::string bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    const absl::Status status = Read({bad});
    // Padding of the checksum itself may differ.
    if (bit / 8 < 148 || bit / 8 >= 156) {
      EXPECT_EQ(status.code(), Code::kDataLoss) << bit;
    }
  }
}

TEST_F(TarReader, NamesCannotLeave) {
  ExpectError(TarBuilder().File("../escape", ""), Code::kInvalidArgument, "\"..\"");
  ExpectError(TarBuilder().File("a/../../escape", ""), Code::kInvalidArgument, "\"..\"");
  ExpectError(TarBuilder().Pax("path", std::string("a\0b", 3)).File("x", ""),
              Code::kInvalidArgument, "zero byte");
  ExpectError(TarBuilder().Pax("path", std::string(256, 'n')).File("x", ""), Code::kInvalidArgument,
              "256 bytes");
  ExpectError(TarBuilder().Pax("path", std::string(5000, '/')).File("x", ""),
              Code::kInvalidArgument, "5000 bytes");
  ExpectError(TarBuilder().File("", ""), Code::kInvalidArgument, "root");
  ASSERT_TRUE(Read(TarBuilder().File("//etc/passwd", "from the root")).ok());
  EXPECT_EQ(Text("/etc/passwd"), "from the root");
}

TEST_F(TarReader, LinksOnTheWayAreFollowedInside) {
  ASSERT_TRUE(Read(TarBuilder()
                       .Directory("usr/lib")
                       .Link("lib", "usr/lib")
                       .Link("out", "../../../../etc")
                       .Link("abs", "/usr")
                       .File("lib/a", "1")
                       .File("out/passwd", "2")
                       .File("abs/lib/b", "3"))
                  .ok());
  EXPECT_EQ(Text("usr/lib/a"), "1");
  EXPECT_EQ(Text("etc/passwd"), "2");
  EXPECT_EQ(Text("usr/lib/b"), "3");
  EXPECT_EQ(tree_->root().Find("out")->kind, Node::Kind::kLink);
}

TEST_F(TarReader, Loops) {
  ExpectError(TarBuilder().Link("a", "b").Link("b", "a").File("a/x", ""), Code::kInvalidArgument,
              "more than 40 symbolic links");
  ASSERT_TRUE(Read(TarBuilder().Link("self", "self")).ok());
  EXPECT_EQ(Find("self"), nullptr);
  EXPECT_EQ(Find("self/x"), nullptr);
}

TEST_F(TarReader, HardLinksOnlyToFilesThatAreThere) {
  for (const char* target : {"missing", "/etc/passwd", "folder", "", "/"})
    ExpectError(TarBuilder().Directory("folder").HardLink("a", target), Code::kInvalidArgument,
                "a");
  ExpectError(TarBuilder().HardLink("a", "../x"), Code::kInvalidArgument, "\"..\"");
}

TEST_F(TarReader, LaterEntriesReplaceEarlierOnes) {
  ASSERT_TRUE(Read(TarBuilder()
                       .File("a", "old")
                       .HardLink("kept", "a")
                       .File("a", "new")
                       .File("d/x", "1")
                       .Directory("d", 0700)
                       .File("f/x", "gone")
                       .File("f", "file"))
                  .ok());
  EXPECT_EQ(Text("a"), "new");
  EXPECT_EQ(Text("kept"), "old");
  EXPECT_EQ(Text("d/x"), "1");
  EXPECT_EQ(Find("d")->permissions, 0700u);
  EXPECT_EQ(Text("f"), "file");
  ExpectError(TarBuilder().File("f", "").File("f/x", ""), Code::kInvalidArgument, "below a file");
}

TEST_F(TarReader, DevicesAreLeftOut) {
  ASSERT_TRUE(Read(TarBuilder()
                       .Add({.name = "null", .type = '3'})
                       .Add({.name = "disk", .type = '4'})
                       .Add({.name = "fifo", .type = '6'})
                       .File("file", "1"))
                  .ok());
  EXPECT_EQ(tree_->left_out(), 3u);
  EXPECT_EQ(tree_->entries(), 1u);
  EXPECT_EQ(Find("null"), nullptr);
}

TEST_F(TarReader, AbsurdSizes) {
  const std::string huge = std::string("\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", 12);
  ExpectError(TarBuilder().Add({.name = "a", .size = huge}), Code::kDataLoss, "of which");
  ExpectError(TarBuilder().Add({.name = "a", .size = std::string(12, '\xff')}), Code::kDataLoss,
              "size is no number");
  ExpectError(TarBuilder().Add({.name = "a", .size = "77777777777 "}), Code::kDataLoss, "of which");
  ExpectError(TarBuilder().Pax("size", "9223372036854775808").File("a", ""), Code::kDataLoss,
              "size is no number");
  ExpectError(TarBuilder().Pax("size", "-1").File("a", ""), Code::kDataLoss, "size is no number");
  ExpectError(TarBuilder().Add({.name = "x", .type = 'x', .data = std::string(2 << 20, 'x')}),
              Code::kResourceExhausted, "extended header");
}

TEST_F(TarReader, BadRecordsOfExtendedHeaders) {
  for (const char* record : {"x", "5 a=b", "99 a=b\n", "3 a\n", "0 a=b\n", "-6 a=b\n", "6a=b\n",
                             "99999999999999999999 a=b\n", "6 abc\n"})
    ExpectError(TarBuilder().Add({.name = "x", .type = 'x', .data = record}).File("a", ""),
                Code::kDataLoss, "extended header");
  ExpectError(TarBuilder().Pax("size", "0", 'g').File("a", ""), Code::kDataLoss, "global");
  ASSERT_TRUE(Read(TarBuilder().Pax("comment", "a commit", 'g').File("a", "1")).ok());
  EXPECT_EQ(Text("a"), "1");
}

TEST_F(TarReader, WhatIsNotReadIsSaid) {
  ExpectError(TarBuilder().Add({.name = "a", .type = 'S'}), Code::kUnimplemented, "sparse");
  ExpectError(TarBuilder().Pax("GNU.sparse.major", "1").File("a", ""), Code::kUnimplemented,
              "sparse");
  ExpectError(TarBuilder().Add({.name = "a", .type = 'Q'}), Code::kUnimplemented, "type 81");
}

TEST_F(TarReader, EntriesAreBounded) {
  TarBuilder many;
  for (int i = 0; i < 101; ++i) many.File("f" + std::to_string(i), "");
  EXPECT_EQ(Read({many.Bytes()}, 100).code(), Code::kResourceExhausted);
  EXPECT_TRUE(Read({many.Bytes()}, 101).ok());
  // Directories that only lead to something count as well.
  std::string deep;
  for (int i = 0; i < 200; ++i) deep += "d/";
  EXPECT_EQ(Read({TarBuilder().Pax("path", deep + "f").File("x", "").Bytes()}, 100).code(),
            Code::kResourceExhausted);
  // So does the same name again and again, and a long way through links.
  TarBuilder same;
  for (int i = 0; i < 7000; ++i) same.Directory("d");
  EXPECT_EQ(Read({same.Bytes()}, 100).code(), Code::kResourceExhausted);
  TarBuilder links;
  std::string way;
  for (int i = 0; i < 45; ++i) way += "./../";
  for (int i = 0; i < 40; ++i)
    links.Link("l" + std::to_string(i), way.substr(0, 98 - 5) + "/l" + std::to_string(i + 1));
  links.Directory("l40");
  for (int i = 0; i < 50; ++i) links.File("l1/f", "");
  EXPECT_EQ(Read({links.Bytes()}, 200).code(), Code::kResourceExhausted);
}

TEST_F(TarReader, ADeepTreeIsNoTroubleToFree) {
  TarBuilder builder;
  std::string path;
  // Each link leads a hundred directories further down than a path could.
  for (int step = 0; step < 40; ++step) {
    std::string down = step == 0 ? "" : "l" + std::to_string(step - 1) + "/";
    for (int i = 0; i < 40; ++i) down += "d/";
    builder.Directory(down);
    builder.Link("l" + std::to_string(step), down);
  }
  ASSERT_TRUE(Read({builder.Bytes()}, 100'000).ok());
  EXPECT_GT(tree_->entries(), 1600u);
}

TEST_F(TarReader, LayersReplaceAndHide) {
  const std::string lower = TarBuilder()
                                .File("bin/a", "lower a")
                                .File("bin/b", "lower b")
                                .File("etc/conf", "lower")
                                .File("var/cache/x", "1")
                                .File("var/cache/deep/y", "2")
                                .File("opt/old", "3")
                                .Bytes();
  const std::string upper = TarBuilder()
                                .File("bin/a", "upper a")
                                .File("bin/.wh.b", "")
                                .File("var/cache/new", "n")
                                .File("var/cache/.wh..wh..opq", "")
                                .File(".wh.opt", "")
                                .File("opt/fresh", "f")
                                .File("etc/.wh..wh.plnk", "")
                                .File("etc/.wh.missing", "")
                                .Bytes();
  ASSERT_TRUE(Read({lower, upper}).ok());
  EXPECT_EQ(Text("bin/a"), "upper a");
  EXPECT_EQ(Find("bin/b"), nullptr);
  EXPECT_EQ(Text("etc/conf"), "lower");
  EXPECT_EQ(Text("var/cache/new"), "n");
  EXPECT_EQ(Find("var/cache/x"), nullptr);
  EXPECT_EQ(Find("var/cache/deep"), nullptr);
  EXPECT_EQ(Find("opt/old"), nullptr);
  EXPECT_EQ(Text("opt/fresh"), "f");
  EXPECT_EQ(Find("etc/.wh.missing"), nullptr);
}

TEST_F(TarReader, WhiteoutsDoNotHideTheirOwnLayer) {
  const std::string lower = TarBuilder().File("d/low", "l").File("f", "l").Bytes();
  const std::string upper = TarBuilder()
                                .File("d/up", "u")
                                .File("f", "u")
                                .File("d/sub/up", "u")
                                .File(".wh.d", "")
                                .File(".wh.f", "")
                                .Bytes();
  ASSERT_TRUE(Read({lower, upper}).ok());
  EXPECT_EQ(Text("f"), "u");
  EXPECT_EQ(Text("d/up"), "u");
  EXPECT_EQ(Text("d/sub/up"), "u");
  EXPECT_EQ(Find("d/low"), nullptr);
}

TEST_F(TarReader, BadWhiteouts) {
  ExpectError(TarBuilder().File(".wh.", ""), Code::kInvalidArgument, "0 bytes");
  ExpectError(TarBuilder().File("a/.wh...", ""), Code::kInvalidArgument, "\"..\"");
  ExpectError(TarBuilder().File("../.wh.a", ""), Code::kInvalidArgument, "\"..\"");
}

TEST_F(TarReader, ALayerFollowsTheLinksOfTheOneBelow) {
  const std::string lower = TarBuilder().File("usr/lib/a", "l").Link("lib", "usr/lib").Bytes();
  const std::string upper = TarBuilder().File("lib/b", "u").HardLink("lib/c", "lib/a").Bytes();
  ASSERT_TRUE(Read({lower, upper}).ok());
  EXPECT_EQ(Text("usr/lib/b"), "u");
  EXPECT_EQ(Text("usr/lib/a"), "l");
  EXPECT_EQ(Text("usr/lib/c"), "l");
}

// The same layers, applied one after the other and made into trees that are stacked.
TEST_F(TarReader, StackedTreesAgreeWithLayersReadInARow) {
  const std::vector<std::string> layers = {
      TarBuilder().File("usr/lib/a", "0").Link("lib", "usr/lib").File("x/y", "0").Bytes(),
      TarBuilder().File("lib/b", "1").File("x/.wh.y", "").File("x/z", "1").Bytes(),
      TarBuilder()
          .Directory("x")
          .File("x/.wh..wh..opq", "")
          .File("x/w", "2")
          .HardLink("h", "x/w")
          .Bytes(),
      TarBuilder().File("lib/.wh.a", "").File("h2", "3").Bytes()};
  TreeBuilder stack(10'000);
  for (const std::string& layer : layers) {
    TreeBuilder one(10'000);
    one.BeginLayer();
    ASSERT_TRUE(ReadTar(AsBytes(layer), one).ok());
    ASSERT_TRUE(stack.AddTree(std::move(one).Finish()).ok());
  }
  ASSERT_TRUE(Read(layers).ok());
  const Tree in_a_row = *std::move(tree_);
  tree_ = std::move(stack).Finish();
  for (const char* path : {"usr/lib/a", "usr/lib/b", "lib", "x", "x/y", "x/z", "x/w", "h", "h2"}) {
    const auto one = in_a_row.Resolve(path);
    const auto other = tree_->Resolve(path);
    ASSERT_EQ(one.ok(), other.ok()) << path;
    if (one.ok()) {
      EXPECT_EQ((*one)->mode(), (*other)->mode()) << path;
    }
  }
  EXPECT_EQ(Text("lib/b"), "1");
  EXPECT_EQ(Find("x/z"), nullptr);
  EXPECT_EQ(Find("usr/lib/a"), nullptr);
  EXPECT_EQ(Find("h"), Find("x/w"));
  EXPECT_EQ(in_a_row.entries(), tree_->entries());
}

TEST_F(TarReader, AWhiteoutOutlivesAStackThatIsStackedAgain) {
  const std::string base = TarBuilder().File("a", "0").File("b", "0").Bytes();
  const std::string middle = TarBuilder().File("a", "1").Bytes();
  const std::string top = TarBuilder().File(".wh.a", "").Bytes();
  const auto tree_of = [](std::initializer_list<const Tree*> trees) {
    TreeBuilder builder(1000);
    for (const Tree* tree : trees) EXPECT_TRUE(builder.AddTree(*tree).ok());
    return std::move(builder).Finish();
  };
  const auto read = [](const std::string& layer) {
    TreeBuilder builder(1000);
    builder.BeginLayer();
    EXPECT_TRUE(ReadTar(AsBytes(layer), builder).ok());
    return std::move(builder).Finish();
  };
  const Tree low = read(base), mid = read(middle), high = read(top);
  const Tree upper = tree_of({&mid, &high});
  tree_ = tree_of({&low, &upper});
  EXPECT_EQ(Find("a"), nullptr);
  EXPECT_EQ(Text("b"), "0");
}

}  // namespace
}  // namespace waxvm::root_image
