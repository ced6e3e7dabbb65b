// SPDX-License-Identifier: Apache-2.0
#include "src/supervisor/run_gate.h"

#include <gtest/gtest.h>

#include <string>

namespace waxvm {
namespace {

TEST(RunGateTest, RemembersABoundedNumberOfDenialsButCountsAll) {
  const GrantSet grants;
  const Authorizer authorizer;
  RunGate gate(grants, authorizer, "label");
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 300; ++i) {
      const std::string name = "/file" + std::to_string(i);
      EXPECT_EQ(gate.Check({Resource::kFile, name, false}).code(),
                absl::StatusCode::kPermissionDenied);
    }
  }
  EXPECT_EQ(gate.denials(), 600u);
  ASSERT_EQ(gate.denied().size(), 256u);
  EXPECT_EQ(gate.denied()[255].name, "/file255");
  EXPECT_EQ(gate.denied()[255].count, 2u);
}

TEST(RunGateTest, TellsReadsAndWritesApartAndCutsLongNames) {
  const GrantSet grants;
  const Authorizer authorizer;
  RunGate gate(grants, authorizer, "");
  gate.RecordDenial({Resource::kFile, "/a", false});
  gate.RecordDenial({Resource::kFile, "/a", true});
  gate.RecordDenial({Resource::kSystemCall, "/a", true});
  gate.RecordDenial({Resource::kHostFunction, std::string(1 << 20, 'n'), false});
  ASSERT_EQ(gate.denied().size(), 4u);
  EXPECT_EQ(gate.denied()[3].name.size(), 4096u);
}

TEST(RunGateTest, WhatIsGrantedIsNotRecorded) {
  GrantSet grants;
  grants.mounts.push_back({.guest_path = "/data", .rights = Rights::kReadOnly});
  const Authorizer authorizer;
  RunGate gate(grants, authorizer, "");
  EXPECT_TRUE(gate.Check({Resource::kFile, "/data/x", false}).ok());
  EXPECT_EQ(gate.denials(), 0u);
  const absl::Status refused = gate.Check({Resource::kFile, "/data/x", true});
  EXPECT_EQ(std::string(refused.message()), "file /data/x (write): not granted");
  EXPECT_EQ(gate.denials(), 1u);
}

}  // namespace
}  // namespace waxvm
