// SPDX-License-Identifier: Apache-2.0
// Root images made by tar, gzip and mkfs.erofs, and programs that run from them.
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "fixture.h"

namespace waxvm::integration {
namespace {

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

class Images : public EachProvider {
 protected:
  void SetUp() override {
    EachProvider::SetUp();
    if (IsSkipped()) return;
    if (access("/bin/busybox", X_OK) != 0)
      GTEST_SKIP() << "/bin/busybox is not installed (busybox-static)";
    std::filesystem::create_directories(Path("root/bin"));
    std::filesystem::create_directories(Path("root/etc"));
    std::filesystem::copy_file("/bin/busybox", Path("root/bin/busybox"));
    std::ofstream(Path("root/etc/conf")) << "from the image\n";
    std::ofstream(Path("root/etc/old")) << "old\n";
    std::filesystem::create_symlink("busybox", Path("root/bin/cat"));
    std::filesystem::create_directories(Path("top/etc"));
    std::ofstream(Path("top/etc/.wh.old"));
    std::ofstream(Path("top/etc/new")) << "new\n";
    Tar("root", "root.tar");
    Tar("top", "top.tar");
  }

  void Must(const std::vector<std::string>& command) const {
    const Completed done = RunCommand(command);
    ASSERT_EQ(done.exit_code, 0) << command[0] << ": " << done.error;
  }
  void Tar(const std::string& folder, const std::string& archive) const {
    Must({"/bin/tar", "-C", Path(folder), "-cf", Path(archive), "."});
  }
  Completed Run(const std::vector<std::string>& images, const std::vector<std::string>& program,
                std::vector<std::string> flags = {}) const {
    for (const std::string& image : images) flags.push_back("--image=" + image);
    return RunCommand(WaxvmRun(GetParam(), flags, program));
  }
  void ExpectOutput(const Completed& run, const std::string& output) const {
    EXPECT_EQ(run.exit_code, 0) << run.error;
    EXPECT_EQ(run.output, output);
  }

  // An OCI image layout in oci/, its digests by sha256sum.
  std::string Digest(const std::string& path) const {
    return "sha256:" + RunCommand({"/usr/bin/sha256sum", path}).output.substr(0, 64);
  }
  std::string PutBlob(const std::string& bytes) const {
    std::ofstream(Path("blob"), std::ios::binary) << bytes;
    const std::string digest = Digest(Path("blob"));
    std::filesystem::create_directories(Path("oci/blobs/sha256"));
    std::filesystem::rename(Path("blob"), Path("oci/blobs/sha256/" + digest.substr(7)));
    return "\"digest\": \"" + digest + "\", \"size\": " + std::to_string(bytes.size());
  }
  void PutLayout() const {
    Must({"/bin/gzip", "-k", Path("root.tar")});
    const std::string config = PutBlob(
        R"({"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin", "FROM=image"],)"
        R"( "Entrypoint": ["busybox"], "Cmd": ["env"]}, "rootfs": {"type": "layers", "diff_ids": [")" +
        Digest(Path("root.tar")) + "\", \"" + Digest(Path("top.tar")) + "\"]}}");
    const std::string type = "\"mediaType\": \"application/vnd.oci.image.";
    const std::string manifest =
        PutBlob("{\"schemaVersion\": 2, \"config\": {" + type + "config.v1+json\", " + config +
                "}, \"layers\": [{" + type + "layer.v1.tar+gzip\", " +
                PutBlob(ReadFile(Path("root.tar.gz"))) + "}, {" + type + "layer.v1.tar\", " +
                PutBlob(ReadFile(Path("top.tar"))) + "}]}");
    std::ofstream(Path("oci/oci-layout")) << "{\"imageLayoutVersion\": \"1.0.0\"}";
    std::ofstream(Path("oci/index.json"))
        << "{\"schemaVersion\": 2, \"manifests\": [{" + type + "manifest.v1+json\", " + manifest +
               ", \"annotations\": {\"org.opencontainers.image.ref.name\": \"a:b/latest\"}}]}";
  }
};

TEST_P(Images, BusyboxFromATar) {
  const std::string image = "tar:" + Path("root.tar");
  ExpectOutput(Run({image}, {"/bin/busybox", "cat", "/etc/conf"}), "from the image\n");
  ExpectOutput(Run({image}, {"/bin/busybox", "ls", "/etc"}), "conf\nold\n");
  ExpectOutput(Run({image}, {"/bin/cat", "/etc/conf"}), "from the image\n");
  EXPECT_EQ(Run({image}, {"/bin/nothing"}).exit_code, 127);
  EXPECT_EQ(Run({image}, {"/etc/conf"}).exit_code, 126);
  const Completed none = Run({image}, {});
  EXPECT_EQ(none.exit_code, 125);
  EXPECT_TRUE(Contains(none.error, "does not say what to run")) << none.error;
}

TEST_P(Images, BusyboxFromAStackWithAWhiteout) {
  const std::vector<std::string> images = {"tar:" + Path("root.tar"), "tar:" + Path("top.tar")};
  ExpectOutput(Run(images, {"/bin/busybox", "ls", "/etc"}), "conf\nnew\n");
  ExpectOutput(Run(images, {"/bin/busybox", "cat", "/etc/new", "/etc/conf"}),
               "new\nfrom the image\n");
}

TEST_P(Images, BusyboxFromAnOciLayout) {
  PutLayout();
  for (const std::string& image : {"oci:" + Path("oci"), "oci:" + Path("oci") + ":a:b/latest"})
    ExpectOutput(Run({image}, {"/bin/busybox", "ls", "/etc"}), "conf\nnew\n");
  // Its own command, in its environment, of which a part is changed.
  const Completed run = Run({"oci:" + Path("oci")}, {}, {"--env=FROM=flag", "--env=MORE=1"});
  EXPECT_EQ(run.exit_code, 0) << run.error;
  EXPECT_TRUE(Contains(run.output, "PATH=/bin\n")) << run.output;
  EXPECT_TRUE(Contains(run.output, "FROM=flag\n") && Contains(run.output, "MORE=1\n"));
  EXPECT_FALSE(Contains(run.output, "FROM=image"));
  const Completed missing = Run({"oci:" + Path("oci") + ":other"}, {"/bin/busybox"});
  EXPECT_EQ(missing.exit_code, 125);
  EXPECT_TRUE(Contains(missing.error, "there are: a:b/latest")) << missing.error;
}

TEST_P(Images, AFlippedBitInALayerIsRefused) {
  PutLayout();
  const std::string digest = Digest(Path("top.tar"));
  std::fstream blob(Path("oci/blobs/sha256/" + digest.substr(7)));
  blob.seekp(700);
  const char before = static_cast<char>(blob.peek());
  blob.put(static_cast<char>(before ^ 4));
  blob.close();
  const Completed run = Run({"oci:" + Path("oci")}, {"/bin/busybox", "true"});
  EXPECT_EQ(run.exit_code, 125);
  EXPECT_TRUE(Contains(run.error, "but " + digest + " is expected")) << run.error;
}

TEST_P(Images, BusyboxFromErofs) {
  if (access("/usr/bin/mkfs.erofs", X_OK) != 0)
    GTEST_SKIP() << "mkfs.erofs is not installed (erofs-utils)";
  Must({"/usr/bin/mkfs.erofs", "--quiet", Path("root.erofs"), Path("root")});
  const std::string image = "erofs:" + Path("root.erofs");
  ExpectOutput(Run({image}, {"/bin/busybox", "cat", "/etc/conf"}), "from the image\n");
  ExpectOutput(Run({image, "tar:" + Path("top.tar")}, {"/bin/busybox", "ls", "/etc"}),
               "conf\nnew\n");
}

TEST_P(Images, AnInstanceChangesItsOwnCopyOnly) {
  const std::string image = "tar:" + Path("root.tar");
  const std::string before = Digest(Path("root.tar"));
  EXPECT_EQ(Run({image}, {"/bin/busybox", "truncate", "-s", "3", "/etc/conf"}).exit_code, 0);
  EXPECT_EQ(Run({image}, {"/bin/busybox", "rm", "-r", "/etc"}).exit_code, 0);
  ExpectOutput(Run({image}, {"/bin/busybox", "cat", "/etc/conf"}), "from the image\n");
  EXPECT_EQ(Digest(Path("root.tar")), before);
}

TEST_P(Images, GrantsAndTheImage) {
  const std::string image = "tar:" + Path("root.tar");
  std::filesystem::create_directories(Path("shared"));
  std::ofstream(Path("shared/file")) << "granted\n";
  ExpectOutput(Run({image}, {"/bin/busybox", "cat", "/data/file"},
                   {"--grant=files:" + Path("shared") + ":/data:ro"}),
               "granted\n");
  const Completed both =
      Run({image}, {"/bin/busybox", "true"}, {"--grant=files:" + Path("shared") + ":/:ro"});
  EXPECT_EQ(both.exit_code, 125);
  EXPECT_TRUE(Contains(both.error, "both a root image and files")) << both.error;
}

INSTANTIATE_TEST_SUITE_P(Cli, Images, testing::Values("microvm"),
                         [](const auto& test) { return std::string(test.param); });

class NoImages : public Images {};

TEST_P(NoImages, AreRefusedInWords) {
  const Completed run = Run({"tar:" + Path("root.tar")}, {"/bin/busybox", "true"});
  EXPECT_EQ(run.exit_code, 125);
  EXPECT_TRUE(Contains(run.error, "use the microvm provider")) << run.error;
}

INSTANTIATE_TEST_SUITE_P(Cli, NoImages, testing::Values("process"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace waxvm::integration
