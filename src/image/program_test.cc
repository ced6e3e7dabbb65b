// SPDX-License-Identifier: Apache-2.0
#include "waxvm/program.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "src/base/unique_fd.h"
#include "src/image/elf_builder_for_test.h"
#include "src/image/program_rep.h"

namespace waxvm {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

class ProgramTest : public ::testing::Test {
 protected:
  ProgramTest() {
    std::string name = (std::filesystem::temp_directory_path() / "waxvm-program-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~ProgramTest() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  std::string Write(const std::string& name, const std::vector<std::byte>& bytes) const {
    std::ofstream(Path(name), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return Path(name);
  }

  const std::vector<std::byte> image_ = image::ElfBuilder().Bytes();
  std::filesystem::path folder_;
};

TEST_F(ProgramTest, FromFileIsAnImmutableCopy) {
  const std::string path = Write("program", image_);
  const auto program = Program::FromFile(path);
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(program->kind(), Program::Kind::kElf);
  EXPECT_EQ(program->name(), path);

  Write("program", std::vector<std::byte>(3));
  const internal::ProgramRep& rep = program->rep();
  EXPECT_TRUE(std::ranges::equal(rep.bytes(), image_));
  EXPECT_EQ(rep.elf().entry, 0x401100u);

  std::vector<std::byte> read(image_.size() + 1);
  EXPECT_EQ(::pread(rep.file(), read.data(), read.size(), 0), static_cast<ssize_t>(image_.size()));
  EXPECT_EQ(::pwrite(rep.file(), "x", 1, 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(::ftruncate(rep.file(), 0), -1);
  EXPECT_EQ(::fcntl(rep.file(), F_GET_SEALS) & 0xf,
            F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
  EXPECT_NE(::fcntl(rep.file(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(ProgramTest, CopiesShareOneImage) {
  const auto program = Program::FromBytes(image_, "bytes");
  ASSERT_TRUE(program.ok()) << program.status();
  const Program copy = *program;
  EXPECT_EQ(&copy.rep(), &program->rep());
}

TEST_F(ProgramTest, FromDescriptorReadsFromTheStartAndLeavesItAlone) {
  const UniqueFd fd(::open(Write("program", image_).c_str(), O_RDONLY | O_CLOEXEC));
  ::lseek(fd.get(), 100, SEEK_SET);
  const auto program = Program::FromDescriptor(fd.get(), "named");
  ASSERT_TRUE(program.ok()) << program.status();
  EXPECT_EQ(program->name(), "named");
  EXPECT_EQ(::lseek(fd.get(), 0, SEEK_CUR), 100);
}

TEST_F(ProgramTest, FromFunction) {
  const Program program = Program::FromFunction("native", [](NativeContext&) { return 3; });
  EXPECT_EQ(program.kind(), Program::Kind::kNative);
  EXPECT_EQ(program.name(), "native");
  EXPECT_TRUE(program.rep().function());
  EXPECT_EQ(program.rep().file(), -1);
}

TEST_F(ProgramTest, SealedFileCanBeExecuted) {
  const auto program = Program::FromFile("/bin/true");
  ASSERT_TRUE(program.ok()) << program.status();
  const pid_t child = ::fork();
  if (child == 0) {
    char name[] = "true";
    char* arguments[] = {name, nullptr};
    char* environment[] = {nullptr};
    ::fexecve(program->rep().file(), arguments, environment);
    ::_exit(100);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(ProgramTest, NotFound) {
  const auto status = Program::FromFile(Path("missing")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(status), HasSubstr(Path("missing")));
}

TEST_F(ProgramTest, PermissionDenied) {
  ::chmod(Write("program", image_).c_str(), 0);
  const int user = ::setfsuid(65534);  // root would read a file of any mode
  const auto status = Program::FromFile(Path("program")).status();
  ::setfsuid(static_cast<uid_t>(user));
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(ProgramTest, OnlyRegularFiles) {
  EXPECT_THAT(Message(Program::FromFile(folder_.string()).status()),
              EndsWith("not a regular file (a directory)"));
  // Would wait for a writer for ever if it were opened as a file is.
  ASSERT_EQ(::mkfifo(Path("fifo").c_str(), 0600), 0);
  const auto status = Program::FromFile(Path("fifo")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), EndsWith("not a regular file (a device, pipe or socket)"));
  EXPECT_EQ(Program::FromFile("/dev/zero").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(ProgramTest, DescriptorMustBeReadable) {
  EXPECT_EQ(Program::FromDescriptor(-1, "x").status().code(), absl::StatusCode::kInvalidArgument);
  const std::string path = Write("program", image_);
  for (int flags : {O_WRONLY, O_PATH}) {
    const UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
    const auto status = Program::FromDescriptor(fd.get(), "x").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(status), HasSubstr("is not open for reading"));
  }
}

TEST_F(ProgramTest, ScriptsAndEmptyFilesAreNamed) {
  std::ofstream(Path("script")) << "#!/bin/sh\necho\n";
  auto status = Program::FromFile(Path("script")).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status), Path("script") +
                                 ": not an ELF image (starts with \"#!/bin/sh\\necho\\n\"); run a "
                                 "script's interpreter and name the script to it");
  status = Program::FromBytes({}, "nothing").status();
  EXPECT_EQ(Message(status), "nothing: not an ELF image (0 bytes)");
}

TEST_F(ProgramTest, OverOneGibibyteIsRefusedWithoutReadingIt) {
  const std::string path = Write("program", image_);
  std::filesystem::resize_file(path, image::kMaxImageBytes + 1);  // sparse
  const auto status = Program::FromFile(path).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(Message(status), HasSubstr("1073741825 bytes"));
}

TEST_F(ProgramTest, PathWithZeroByte) {
  EXPECT_EQ(Program::FromFile(std::string("/bin/true\0x", 11)).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace waxvm
