// SPDX-License-Identifier: Apache-2.0
// What does an exchange cost over CoAP, next to datagrams that are sent back as they came, and to
// libcoap? Who asks runs on one CPU, who answers on another; 4,096 pairs of addresses over one
// socket each; all in one run, so that ratios are fair.
#include <benchmark/benchmark.h>

#include <string>

#include "benchmarks/coap_cases.h"

namespace waxvm {
namespace {

void Register(const std::string& name, const NewLoad& make) {
  for (const std::size_t in_flight : {std::size_t{64}, std::size_t{1}})
    benchmark::RegisterBenchmark(
        (name + "/InFlight" + std::to_string(in_flight)).c_str(),
        [make, in_flight](benchmark::State& state) { MeasureExchanges(state, make, in_flight); })
        ->Unit(benchmark::kMicrosecond);
}

void RegisterAll() {
  Register("RawUdp", NewRawLoad);
  for (const bool confirmable : {false, true}) {
    const std::string type = confirmable ? "Con" : "Non";
    Register("Wax" + type, [confirmable](std::size_t in_flight) {
      return NewWaxLoad(confirmable, UdpBackend::kDefault, in_flight);
    });
    Register("Libcoap" + type, [confirmable](std::size_t in_flight) {
      return NewLibcoapLoad(confirmable, kPairs, in_flight);
    });
    Register("LibcoapOnePeer" + type, [confirmable](std::size_t in_flight) {
      return NewLibcoapLoad(confirmable, 1, in_flight);
    });
    Register("WaxIoUring" + type, [confirmable](std::size_t in_flight) {
      return NewWaxLoad(confirmable, UdpBackend::kIoUring, in_flight);
    });
  }
  Register("SocketMmsg",
           [](std::size_t in_flight) { return NewSocketLoad(UdpBackend::kMmsg, in_flight); });
  Register("SocketIoUring",
           [](std::size_t in_flight) { return NewSocketLoad(UdpBackend::kIoUring, in_flight); });
}

}  // namespace
}  // namespace waxvm

int main(int argc, char** argv) {
  waxvm::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
