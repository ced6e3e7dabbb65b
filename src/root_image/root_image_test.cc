// SPDX-License-Identifier: Apache-2.0
#include "waxvm/root_image.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "src/root_image/root_image_rep.h"
#include "src/root_image/tar_builder_for_test.h"

namespace waxvm {
namespace {

using root_image::DigestOf;
using root_image::TarBuilder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Code = absl::StatusCode;

std::string Digest(const std::string& bytes) {
  return DigestOf(std::as_bytes(std::span<const char>(bytes)));
}

std::string Gzip(const std::string& bytes) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<unsigned>(bytes.size());
  stream.next_out = reinterpret_cast<unsigned char*>(packed.data());
  stream.avail_out = static_cast<unsigned>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string Zstd(const std::string& bytes) {
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 3));
  return packed;
}

class RootImageTest : public ::testing::Test {
 protected:
  RootImageTest() {
    std::string name = (std::filesystem::temp_directory_path() / "waxvm-image-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~RootImageTest() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  std::string Write(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories(std::filesystem::path(Path(name)).parent_path());
    std::ofstream(Path(name), std::ios::binary) << bytes;
    return Path(name);
  }
  static void ExpectError(const absl::StatusOr<RootImage>& image, Code code,
                          const std::string& message) {
    EXPECT_EQ(image.status().code(), code) << image.status();
    EXPECT_THAT(std::string(image.status().message()), HasSubstr(message));
  }
  static std::string Text(const RootImage& image, std::string_view path) {
    const auto text = image.ReadFile(path);
    return text.ok() ? *text : absl::StatusCodeToString(text.status().code());
  }

  // An OCI layout in oci/.
  std::string PutBlob(const std::string& bytes) const {
    Write("oci/blobs/sha256/" + Digest(bytes).substr(7), bytes);
    return Digest(bytes);
  }
  static std::string Descriptor(const std::string& type, const std::string& digest,
                                std::size_t size, const std::string& more = "") {
    return "{\"mediaType\":\"" + type + "\",\"digest\":\"" + digest +
           "\",\"size\":" + std::to_string(size) + more + "}";
  }
  struct Layer {
    std::string tar;
    std::string packed;
    std::string type;  ///< after "application/vnd.oci.image.layer.v1."
  };
  /// Writes an image and returns its manifest's descriptor.
  std::string PutImage(const std::vector<Layer>& layers, const std::string& config_members = "",
                       const std::string& more = "") const {
    std::string diff_ids, descriptors;
    for (const Layer& layer : layers) {
      diff_ids += (diff_ids.empty() ? "\"" : ",\"") + Digest(layer.tar) + "\"";
      descriptors += (descriptors.empty() ? "" : ",") +
                     Descriptor("application/vnd.oci.image.layer.v1." + layer.type,
                                PutBlob(layer.packed), layer.packed.size());
    }
    const std::string config = "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{" +
                               config_members + "},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" +
                               diff_ids + "]}}";
    const std::string manifest =
        "{\"schemaVersion\":2,\"config\":" +
        Descriptor("application/vnd.oci.image.config.v1+json", PutBlob(config), config.size()) +
        ",\"layers\":[" + descriptors + "]}";
    return Descriptor("application/vnd.oci.image.manifest.v1+json", PutBlob(manifest),
                      manifest.size(), more);
  }
  std::string PutLayout(const std::string& manifests) const {
    Write("oci/oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}");
    Write("oci/index.json", "{\"schemaVersion\":2,\"manifests\":[" + manifests + "]}");
    return Path("oci");
  }
  static std::string Named(const std::string& name) {
    return ",\"annotations\":{\"org.opencontainers.image.ref.name\":\"" + name + "\"}";
  }

  std::string folder_;
};

TEST_F(RootImageTest, TarPlainAndPacked) {
  const std::string tar =
      TarBuilder().File("a", "text").File("b", std::string(1 << 20, 'b')).Bytes();
  const std::string half = tar.substr(0, 5000);
  for (const std::string& bytes :
       {tar, Gzip(tar), Zstd(tar), Gzip(half) + Gzip(tar.substr(5000)),
        Zstd(half) + Zstd(tar.substr(5000)), Gzip(tar) + std::string(512, '\0')}) {
    const std::string path = Write("image", bytes);
    const auto image = RootImage::FromTar(path, {.digest = Digest(bytes)});
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_EQ(Text(*image, "/a"), "text");
    EXPECT_EQ(Text(*image, "b"), std::string(1 << 20, 'b'));
    EXPECT_THAT(image->info().layers, ElementsAre(Digest(bytes)));
    EXPECT_EQ(image->info().entries, 2u);
    EXPECT_EQ(image->info().held_bytes, tar.size());
  }
}

TEST_F(RootImageTest, ADigestIsCheckedBeforeUse) {
  std::string tar = TarBuilder().File("a", "text").Bytes();
  const std::string digest = Digest(tar);
  tar[512] ^= 1;
  const std::string path = Write("image", tar);
  ExpectError(RootImage::FromTar(path, {.digest = digest}), Code::kDataLoss,
              path + ": the digest is " + Digest(tar) + ", but " + digest + " is expected");
  ExpectError(RootImage::FromTar(path, {.digest = "sha256:abc"}), Code::kInvalidArgument, "digest");
  ExpectError(RootImage::FromTar(path, {.digest = "sha512:abc"}), Code::kUnimplemented, "sha512");
  std::string upper = digest;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  ExpectError(RootImage::FromTar(path, {.digest = upper}), Code::kUnimplemented, "SHA256");
}

TEST_F(RootImageTest, LaterChangesOfTheFileDoNotMatter) {
  const std::string path = Write("image", TarBuilder().File("a", "before").Bytes());
  const auto image = RootImage::FromTar(path);
  ASSERT_TRUE(image.ok());
  Write("image", TarBuilder().File("a", "after!").Bytes());
  EXPECT_EQ(Text(*image, "a"), "before");
  ASSERT_EQ(::truncate(path.c_str(), 0), 0);
  EXPECT_EQ(Text(*image, "a"), "before");
}

TEST_F(RootImageTest, DamagedPackedDataIsDataLoss) {
  std::mt19937 random(3);
  std::string noise(20'000, '\0');
  for (char& c : noise) c = static_cast<char>(random());
  const std::string tar = TarBuilder().File("a", noise).Bytes();
  for (const std::string& good : {Gzip(tar), Zstd(tar)}) {
    for (const std::size_t n : {good.size() - 1, good.size() / 2, std::size_t{8}, std::size_t{5}})
      ExpectError(RootImage::FromTar(Write("image", good.substr(0, n))), Code::kDataLoss,
                  "damaged");
  }
  std::string bad = Gzip(tar);
  bad[bad.size() / 2] ^= 1;
  ExpectError(RootImage::FromTar(Write("image", bad)), Code::kDataLoss, "gzip");
  ExpectError(RootImage::FromTar(Write("image", Gzip(tar) + "x")), Code::kDataLoss, "gzip");
}

TEST_F(RootImageTest, BoundsAreMetEarly) {
  const std::string bomb(64 << 20, '\0');
  for (const std::string& packed : {Gzip(bomb), Zstd(bomb)}) {
    ASSERT_LT(packed.size(), 100'000u);
    ExpectError(RootImage::FromTar(Write("image", packed), {.max_unpacked_bytes = 1 << 20}),
                Code::kResourceExhausted, "1048576 bytes");
  }
  const std::string path = Write("image", TarBuilder().File("a", "").File("b", "").Bytes());
  ExpectError(RootImage::FromTar(path, {.max_file_bytes = 1000}), Code::kResourceExhausted,
              "1000 bytes");
  ExpectError(RootImage::FromTar(path, {.max_unpacked_bytes = 1000}), Code::kResourceExhausted,
              "1000 bytes");
  ExpectError(RootImage::FromTar(path, {.max_entries = 1}), Code::kResourceExhausted, "1 entries");
}

TEST_F(RootImageTest, WhatIsNoFile) {
  ExpectError(RootImage::FromTar(Path("missing")), Code::kNotFound, "missing");
  ExpectError(RootImage::FromTar(folder_), Code::kInvalidArgument, "not a regular file");
  ASSERT_EQ(::mkfifo(Path("fifo").c_str(), 0600), 0);
  ExpectError(RootImage::FromTar(Path("fifo")), Code::kInvalidArgument, "not a regular file");
  ExpectError(RootImage::FromTar(std::string("a\0b", 3)), Code::kInvalidArgument, "zero byte");
  ExpectError(RootImage::FromTar(Write("text", std::string(600, 'x'))), Code::kDataLoss,
              "checksum");
  ExpectError(RootImage::FromErofs(Write("text", std::string(6000, 'x'))), Code::kInvalidArgument,
              "no EROFS image");
  ExpectError(RootImage::FromOciLayout(folder_), Code::kInvalidArgument, "oci-layout");
}

TEST_F(RootImageTest, StackSharesItsLayers) {
  const auto lower =
      RootImage::FromTar(Write("l", TarBuilder().File("a", "0").File("b", "0").Bytes()));
  const auto upper =
      RootImage::FromTar(Write("u", TarBuilder().File("a", "1").File(".wh.b", "").Bytes()));
  ASSERT_TRUE(lower.ok() && upper.ok());
  const auto image = RootImage::Stack(std::array{*lower, *upper});
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(Text(*image, "a"), "1");
  EXPECT_EQ(Text(*image, "b"), "NOT_FOUND");
  EXPECT_EQ(Text(*lower, "b"), "0");
  EXPECT_EQ(image->rep().blobs()[0], lower->rep().blobs()[0]);
  EXPECT_EQ(image->info().layers.size(), 2u);
  EXPECT_EQ(RootImage::Stack({}).status().code(), Code::kInvalidArgument);
  // The layers may go before the stack.
  const auto alone = RootImage::Stack(std::vector{*RootImage::FromTar(Path("l")), *upper});
  EXPECT_EQ(Text(*alone, "a"), "1");
}

TEST_F(RootImageTest, OciLayout) {
  const std::string base = TarBuilder().File("bin/tool", "tool").File("etc/gone", "x").Bytes();
  const std::string top = TarBuilder().File("etc/.wh.gone", "").File("etc/new", "n").Bytes();
  const std::string last = TarBuilder().File("last", "l").Bytes();
  PutLayout(
      PutImage({{base, Gzip(base), "tar+gzip"}, {top, Zstd(top), "tar+zstd"}, {last, last, "tar"}},
               "\"Env\":[\"PATH=/bin\",\"A=1\"],\"Entrypoint\":[\"tool\"],\"Cmd\":[\"-x\",\"y\"],"
               "\"WorkingDir\":\"/srv\",\"User\":\"1000\""));
  const auto image = RootImage::FromOciLayout(Path("oci"));
  ASSERT_TRUE(image.ok()) << image.status();
  EXPECT_EQ(Text(*image, "bin/tool"), "tool");
  EXPECT_EQ(Text(*image, "etc/gone"), "NOT_FOUND");
  EXPECT_EQ(Text(*image, "etc/new"), "n");
  EXPECT_EQ(Text(*image, "last"), "l");
  EXPECT_THAT(image->config().environment, ElementsAre("PATH=/bin", "A=1"));
  EXPECT_THAT(image->config().entrypoint, ElementsAre("tool"));
  EXPECT_THAT(image->config().command, ElementsAre("-x", "y"));
  EXPECT_EQ(image->config().working_directory, "/srv");
  EXPECT_THAT(image->info().layers,
              ElementsAre(Digest(Gzip(base)), Digest(Zstd(top)), Digest(last)));
  // Found in PATH, and refused for what it is.
  const auto program = image->OpenProgram("tool");
  EXPECT_EQ(program.status().code(), Code::kInvalidArgument);
  EXPECT_THAT(std::string(program.status().message()), HasSubstr("/bin/tool: not an ELF"));
  EXPECT_EQ(image->OpenProgram("other").status().code(), Code::kNotFound);
}

TEST_F(RootImageTest, OciReferences) {
  const std::string one = TarBuilder().File("a", "1").Bytes();
  const std::string two = TarBuilder().File("a", "2").Bytes();
  const std::string first = PutImage({{one, one, "tar"}}, "", Named("v1"));
  const std::string second = PutImage({{two, two, "tar"}}, "", Named("v2"));
  const std::string foreign =
      PutImage({{one, one, "tar"}}, "",
               Named("v1") + ",\"platform\":{\"os\":\"linux\",\"architecture\":\"arm64\"}");
  PutLayout(first + "," + second + "," + foreign);
  EXPECT_EQ(Text(*RootImage::FromOciLayout(Path("oci"), "v1"), "a"), "1");
  EXPECT_EQ(Text(*RootImage::FromOciLayout(Path("oci"), "v2"), "a"), "2");
  const std::string digest = second.substr(second.find("sha256:"), 71);
  EXPECT_EQ(Text(*RootImage::FromOciLayout(Path("oci"), digest), "a"), "2");
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kInvalidArgument, "v1, v2");
  ExpectError(RootImage::FromOciLayout(Path("oci"), "v3"), Code::kNotFound, "v1, v2");
  // An index for several platforms.
  const std::string inner = "{\"manifests\":[" + foreign + "," + second + "]}";
  PutLayout(Descriptor("application/vnd.oci.image.index.v1+json", PutBlob(inner), inner.size(),
                       Named("all")));
  EXPECT_EQ(Text(*RootImage::FromOciLayout(Path("oci"), "all"), "a"), "2");
}

TEST_F(RootImageTest, OciBlobsAreVerified) {
  const std::string tar = TarBuilder().File("a", "1").Bytes();
  PutLayout(PutImage({{tar, tar, "tar"}}));
  const std::string name = "oci/blobs/sha256/" + Digest(tar).substr(7);
  std::string bad = tar;
  bad[512] ^= 1;
  Write(name, bad);
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kDataLoss,
              "the digest is " + Digest(bad) + ", but " + Digest(tar));
  Write(name, tar + "x");
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kDataLoss, "bytes, but");
  std::filesystem::remove(Path(name));
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kNotFound, "blobs/sha256/");
  ASSERT_EQ(::mkfifo(Path(name).c_str(), 0600), 0);
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kInvalidArgument, "regular file");
  // The packed layer fits its digest, but what is in it does not fit the config.
  PutLayout(PutImage({{tar, Gzip(bad), "tar+gzip"}}));
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kDataLoss, "unpacked: the digest is");
  ExpectError(RootImage::FromOciLayout(Path("oci"), "", {.digest = Digest(tar)}),
              Code::kInvalidArgument, "reference");
}

TEST_F(RootImageTest, OciNonsense) {
  const std::string tar = TarBuilder().File("a", "1").Bytes();
  for (const char* index :
       {"", "[]", "{", "{\"manifests\":3}", "{\"manifests\":[3]}",
        "{\"manifests\":[{\"digest\":7}]}",
        "{\"manifests\":[{\"digest\":\"sha256:../../../../etc/passwd\",\"size\":1}]}"}) {
    PutLayout("");
    Write("oci/index.json", index);
    const auto image = RootImage::FromOciLayout(Path("oci"));
    EXPECT_EQ(image.status().code(), Code::kInvalidArgument) << index << image.status();
  }
  PutLayout("");
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kNotFound, "there are");
  Write("oci/index.json", std::string(1 << 20, '['));
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kInvalidArgument, "JSON");
  PutLayout(PutImage({{tar, tar, "tar+encrypted"}}));
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kUnimplemented, "encrypted");
  PutLayout(PutImage({}));
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kInvalidArgument, "no layers");
  Write("oci/oci-layout", "{\"imageLayoutVersion\":\"2.0.0\"}");
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kUnimplemented, "2.0.0");
  // An index that leads to itself cannot be written, but a long chain can.
  std::string next = PutImage({{tar, tar, "tar"}});
  for (int i = 0; i < 6; ++i) {
    const std::string index = "{\"manifests\":[" + next + "]}";
    next = Descriptor("application/vnd.oci.image.index.v1+json", PutBlob(index), index.size());
  }
  PutLayout(next);
  ExpectError(RootImage::FromOciLayout(Path("oci")), Code::kInvalidArgument, "indexes");
}

class ErofsImageTest : public RootImageTest {
 protected:
  void SetUp() override {
    if (::access("/usr/bin/mkfs.erofs", X_OK) != 0)
      GTEST_SKIP() << "mkfs.erofs is not installed (erofs-utils)";
    Write("root/small", "small");
    Write("root/sub/exact", std::string(8192, 'e'));
    Write("root/sub/big", std::string(1'000'003, 'b'));
    Write("root/sub/empty", "");
    for (int i = 0; i < 500; ++i)
      Write("root/many/a_rather_long_name_for_a_file_" + std::to_string(i), std::to_string(i));
    std::filesystem::create_symlink("../small", Path("root/sub/link"));
    std::filesystem::create_symlink(std::string(3000, 'l'), Path("root/long"));
    std::filesystem::create_hard_link(Path("root/small"), Path("root/sub/hard"));
    ASSERT_EQ(::chmod(Path("root/small").c_str(), 04711), 0);
    ASSERT_EQ(::mkfifo(Path("root/fifo").c_str(), 0600), 0);
  }
  std::string Make(const std::string& flags) const {
    const std::string command = "rm -f " + Path("image") + "; mkfs.erofs --quiet " + flags + " " +
                                Path("image") + " " + Path("root") + " >" + Path("log") + " 2>&1";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    return Path("image");
  }
};

TEST_F(ErofsImageTest, WhatMkfsMakes) {
  for (const char* flags :
       {"", "--chunksize=4096", "--chunksize=65536", "-x-1 -T7 --ignore-mtime --all-root",
        "--force-uid=70000", "-Eforce-inode-compact", "-Eforce-inode-extended", "-Enoinline_data",
        "-Eforce-chunk-indexes --chunksize=4096"}) {
    SCOPED_TRACE(flags);
    const auto image = RootImage::FromErofs(Make(flags));
    ASSERT_TRUE(image.ok()) << image.status();
    EXPECT_EQ(Text(*image, "small"), "small");
    EXPECT_EQ(Text(*image, "sub/exact"), std::string(8192, 'e'));
    EXPECT_EQ(Text(*image, "sub/big"), std::string(1'000'003, 'b'));
    EXPECT_EQ(Text(*image, "sub/empty"), "");
    EXPECT_EQ(Text(*image, "sub/link"), "small");
    for (int i = 0; i < 500; ++i)
      EXPECT_EQ(Text(*image, "many/a_rather_long_name_for_a_file_" + std::to_string(i)),
                std::to_string(i));
    const auto& tree = image->rep().tree();
    EXPECT_EQ(*tree.Resolve("small"), *tree.Resolve("sub/hard"));
    EXPECT_EQ((*tree.Resolve("small"))->links, 2u);
    EXPECT_EQ((*tree.Resolve("small"))->mode(), S_IFREG | 04711u);
    EXPECT_EQ(tree.root().Find("long")->target, std::string(3000, 'l'));
    EXPECT_EQ(image->info().left_out, 1u);
    EXPECT_EQ(image->info().entries, 509u);
  }
}

TEST_F(ErofsImageTest, CompressionIsRefusedInWords) {
  ExpectError(RootImage::FromErofs(Make("-zlz4")), Code::kUnimplemented, "without -z");
}

TEST_F(ErofsImageTest, AFlippedBitIsSeen) {
  const std::string path = Make("");
  std::string bytes;
  {
    std::ifstream file(path, std::ios::binary);
    bytes.assign(std::istreambuf_iterator<char>(file), {});
  }
  const std::string digest = Digest(bytes);
  ASSERT_TRUE(RootImage::FromErofs(path, {.digest = digest}).ok());
  bytes[1024 + 0x41] ^= 1;  // the volume's name
  ExpectError(RootImage::FromErofs(Write("bad", bytes)), Code::kDataLoss, "checksum");
  ExpectError(RootImage::FromErofs(Write("bad", bytes), {.digest = digest}), Code::kDataLoss,
              "digest");
}

TEST_F(ErofsImageTest, DamageAnywhereIsNoTrouble) {
  std::ifstream file(Make(""), std::ios::binary);
  const std::string good(std::istreambuf_iterator<char>(file), {});
  std::mt19937 random(11);
  for (int round = 0; round < 150; ++round) {
    std::string bad = good;
    bad[1024 + 8] = static_cast<char>(bad[1024 + 8] & ~1);  // without the checksum
    for (int i = 0; i < 20; ++i) bad[1024 + random() % 30'000] = static_cast<char>(random());
    if (round % 3 == 0) bad.resize(random() % bad.size());
    const auto image = RootImage::FromErofs(Write("bad", bad));
    if (image.ok()) static_cast<void>(image->ReadFile("sub/big"));
  }
}

}  // namespace
}  // namespace waxvm
