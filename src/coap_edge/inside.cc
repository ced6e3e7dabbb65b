// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "waxvm/coap_edge.h"
#include "waxvm/coap_endpoint.h"

namespace waxvm::coap {
namespace {

class EndpointClient final : public InsideClient {
 public:
  explicit EndpointClient(Endpoint& endpoint) : endpoint_(endpoint) {}

  absl::StatusOr<std::uint64_t> Request(Call call, Handler handler) override {
    const auto id = endpoint_.Request(
        call.peer, call.request,
        [handler = std::move(handler)](const absl::StatusOr<Response>& response) mutable {
          if (!response.ok()) return handler(response.status(), false);
          Message answer(response->code, std::string(ToText(response->payload)));
          for (const OptionView& option : response->options)
            answer.Add(option.number, option.text());
          handler(std::move(answer), response->more);
        },
        {.timeout = call.timeout, .observe = call.observe});
    if (!id.ok()) return id.status();
    return id->value;
  }

  void Cancel(std::uint64_t id) override { endpoint_.Cancel({id}); }

 private:
  Endpoint& endpoint_;
};

}  // namespace

std::unique_ptr<InsideClient> NewInsideClient(Endpoint& endpoint) {
  return std::make_unique<EndpointClient>(endpoint);
}

}  // namespace waxvm::coap
