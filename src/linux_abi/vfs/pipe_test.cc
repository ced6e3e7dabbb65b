// SPDX-License-Identifier: Apache-2.0
#include "src/linux_abi/vfs/pipe.h"

#include <limits.h>

#include <cerrno>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "src/linux_abi/testing/fake_process.h"
#include "src/linux_abi/vfs/file_system.h"

namespace waxvm::linux_abi {
namespace {

class PipeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(guest_.Start().ok());
    ends_ = *CreatePipe(guest_.process->file_system().context(), 0);
  }
  std::int64_t Write(std::size_t bytes) {
    return ends_.writer->Write(std::vector<std::byte>(bytes));
  }
  std::int64_t Read(std::size_t bytes) {
    std::vector<std::byte> to(bytes);
    return ends_.reader->Read(to);
  }

  FakeProcess guest_;
  PipeEnds ends_;
};

TEST_F(PipeTest, NeverWaitsWithoutTheFlag) {
  EXPECT_EQ(Read(1), -EAGAIN);
  EXPECT_EQ(Write(100'000), std::int64_t{Pipe::kDefaultBytes});
  EXPECT_EQ(Write(1), -EAGAIN);
}

TEST_F(PipeTest, SmallWritesGoInWhole) {
  EXPECT_EQ(Write(Pipe::kDefaultBytes - 10), std::int64_t{Pipe::kDefaultBytes} - 10);
  EXPECT_EQ(Write(11), -EAGAIN);
  EXPECT_EQ(ends_.writer->Poll(), 0) << "room for less than PIPE_BUF";
  EXPECT_EQ(Write(PIPE_BUF + 1), 10);
  EXPECT_EQ(Read(PIPE_BUF), PIPE_BUF);
  EXPECT_EQ(ends_.writer->Poll(), POLLOUT);
}

TEST_F(PipeTest, TheLastEndDecides) {
  const Edges before = ends_.reader->edges();
  Write(3);
  EXPECT_NE(ends_.reader->edges().in, before.in);
  ends_.writer.reset();
  EXPECT_EQ(ends_.reader->Poll(), POLLIN | POLLHUP);
  EXPECT_EQ(Read(10), 3);
  EXPECT_EQ(Read(10), 0);
  ends_ = *CreatePipe(guest_.process->file_system().context(), 0);
  ends_.reader.reset();
  EXPECT_EQ(ends_.writer->Poll(), POLLOUT | POLLERR);
  EXPECT_EQ(Write(1), -EPIPE);
  EXPECT_EQ(Write(0), 0);
}

TEST_F(PipeTest, Capacity) {
  Pipe& pipe = *dynamic_cast<PipeEnd&>(*ends_.reader).pipe();
  const std::uint64_t used = guest_.account.used_bytes();
  EXPECT_EQ(pipe.SetCapacity(0), -EINVAL);
  EXPECT_EQ(pipe.SetCapacity(Pipe::kMaxBytes + 1), -EPERM);
  EXPECT_EQ(pipe.SetCapacity(70'000), 131'072);
  EXPECT_EQ(guest_.account.used_bytes(), used + 65'536);
  Write(50'000);
  EXPECT_EQ(pipe.SetCapacity(4096), -EBUSY);
  EXPECT_EQ(Read(49'000), 49'000);
  EXPECT_EQ(pipe.SetCapacity(1), 4096);
  EXPECT_EQ(pipe.room(), 3096u);
  EXPECT_EQ(Write(2000), 2000) << "across the end of the ring";
  EXPECT_EQ(Read(5000), 3000);
}

}  // namespace
}  // namespace waxvm::linux_abi
