// An external delegate that computes the custom operator AdderConv2D (adder_node.h): what an
// unmodified TFLite interpreter or benchmark tool loads.
//
// Option: flags, default 1 (TFLite's AllowDynamicTensors). With 0 TFLite prepares the custom
// operator itself before the delegate is asked, and refuses the model.
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "custom_ops/tflite/adder_node.h"
#include "custom_ops/tflite/tflite_abi.h"
#include "custom_ops/tflite/thread_pool.h"

namespace pkkd {
namespace {

constexpr char kOperator[] = "AdderConv2D";

struct AdderDelegate {
  TfLiteDelegate interface = {};
  std::shared_ptr<ThreadPool> threads;  // of the interpreter that is being prepared
};

TfLiteStatus Report(TfLiteContext* context, const std::string& error) {
  if (error.empty()) return kTfLiteOk;
  context->ReportError(context, "%s", error.c_str());
  return kTfLiteError;
}

// Calls `body`, which returns an error text; exceptions do not leave this library.
template <typename Body>
TfLiteStatus Guarded(TfLiteContext* context, const Body& body) {
  try {
    return Report(context, body());
  } catch (const std::exception& error) {
    context->ReportError(context, "AdderConv2D must have the memory and threads it asks for. "
                         "Received: %s", error.what());
    return kTfLiteError;
  }
}

void* Init(TfLiteContext* context, const char* buffer, size_t) {
  AdderNode* made = nullptr;
  Guarded(context, [&]() -> std::string {
    const auto* params = reinterpret_cast<const TfLiteDelegateParams*>(buffer);
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    if (params->nodes_to_replace->size != 1 ||
        context->GetNodeAndRegistration(context, params->nodes_to_replace->data[0], &node,
                                        &registration) != kTfLiteOk) {
      return "TFLite must hand over one operator at a time. Received: " +
             std::to_string(params->nodes_to_replace->size);
    }
    made = new AdderNode(*node, static_cast<AdderDelegate*>(params->delegate->data_)->threads);
    return "";
  });
  return made;
}

void Free(TfLiteContext*, void* node) { delete static_cast<AdderNode*>(node); }

TfLiteStatus PrepareNode(TfLiteContext* context, TfLiteNode* node) {
  if (node->user_data == nullptr) return kTfLiteError;  // Init has said why
  auto* adder = static_cast<AdderNode*>(node->user_data);
  return Guarded(context, [&] { return adder->Prepare(context); });
}

TfLiteStatus InvokeNode(TfLiteContext* context, TfLiteNode* node) {
  auto* adder = static_cast<AdderNode*>(node->user_data);
  return Guarded(context, [&] { return adder->Invoke(context); });
}

TfLiteRegistration Registration() {
  TfLiteRegistration registration = {};
  registration.init = Init;
  registration.free = Free;
  registration.prepare = PrepareNode;
  registration.invoke = InvokeNode;
  registration.builtin_code = kTfLiteBuiltinDelegate;
  registration.custom_name = "AdderDelegate";
  registration.version = 1;
  return registration;
}

// Our operators of the graph. The plan is TFLite's and changes with every replacement.
std::string FindNodes(TfLiteContext* context, std::vector<int>* nodes) {
  TfLiteIntArray* plan = nullptr;
  if (context->GetExecutionPlan(context, &plan) != kTfLiteOk) {
    return "TFLite must tell its execution plan. Received: an error";
  }
  for (int i = 0; i < plan->size; ++i) {
    TfLiteNode* node = nullptr;
    TfLiteRegistration* registration = nullptr;
    if (context->GetNodeAndRegistration(context, plan->data[i], &node, &registration) !=
        kTfLiteOk) {
      return "TFLite must know the operators of its plan. Received: an error";
    }
    const char* name = registration->custom_name;
    if (name != nullptr && std::strcmp(name, kOperator) == 0) nodes->push_back(plan->data[i]);
  }
  return "";
}

// A process forked off has the pool, but not its threads: it must not wait for their end.
std::shared_ptr<ThreadPool> MakeThreads(int count) {
  return {new ThreadPool(count), [owner = getpid()](ThreadPool* pool) {
            if (getpid() == owner) delete pool;
          }};
}

// Alone, each operator has no tensors inside that the delegate would have to allocate.
TfLiteStatus PrepareDelegate(TfLiteContext* context, TfLiteDelegate* delegate) {
  return Guarded(context, [&]() -> std::string {
    std::vector<int> nodes;
    const std::string error = FindNodes(context, &nodes);
    if (!error.empty() || nodes.empty()) return error;
    auto* adder = static_cast<AdderDelegate*>(delegate->data_);
    adder->threads = MakeThreads(context->recommended_num_threads);
    for (const int node : nodes) {
      int one[] = {1, node};
      if (context->ReplaceNodeSubsetsWithDelegateKernels(
              context, Registration(), reinterpret_cast<const TfLiteIntArray*>(one), delegate) !=
          kTfLiteOk) {
        return "TFLite must hand over its AdderConv2D operators. Received: an error at operator " +
               std::to_string(node);
      }
    }
    return "";
  });
}

// Returns an empty string, or what is wrong with the option.
std::string SetOption(const char* key, const char* value, TfLiteDelegate* delegate) {
  const std::string name = key == nullptr ? "" : key, text = value == nullptr ? "" : value;
  const std::string received = ". Received: " + name + "=" + text;
  if (name != "flags") return "The adder delegate has one option, flags" + received;
  char* end = nullptr;
  errno = 0;
  const long long flags = std::strtoll(text.c_str(), &end, 10);
  if (text.empty() || *end != '\0' || errno != 0 || flags < 0) {
    return "The option flags must be an integer >= 0" + received;
  }
  delegate->flags = flags;
  return "";
}

TfLiteDelegate* Create(const char* const* keys, const char* const* values, size_t count,
                       std::string* error) {
  auto made = std::make_unique<AdderDelegate>();
  made->interface.data_ = made.get();
  made->interface.Prepare = PrepareDelegate;
  made->interface.flags = kTfLiteDelegateFlagsAllowDynamicTensors;
  for (size_t i = 0; i < count && error->empty(); ++i) {
    *error = SetOption(keys[i], values[i], &made->interface);
  }
  return error->empty() ? &made.release()->interface : nullptr;
}

}  // namespace
}  // namespace pkkd

#define PKKD_EXPORT extern "C" __attribute__((visibility("default")))

// Returns NULL after a call of report_error, or a line on stderr where that is NULL.
PKKD_EXPORT TfLiteDelegate* tflite_plugin_create_delegate(const char* const* keys,
                                                          const char* const* values, size_t count,
                                                          void (*report_error)(const char*)) {
  std::string error;
  TfLiteDelegate* delegate = nullptr;
  try {
    delegate = pkkd::Create(keys, values, count, &error);
  } catch (const std::exception& exception) {
    error = std::string("The adder delegate needs memory. Received: ") + exception.what();
  }
  if (delegate == nullptr && report_error != nullptr) report_error(error.c_str());
  if (delegate == nullptr && report_error == nullptr) std::fprintf(stderr, "%s\n", error.c_str());
  return delegate;
}

PKKD_EXPORT void tflite_plugin_destroy_delegate(TfLiteDelegate* delegate) {
  if (delegate != nullptr) delete static_cast<pkkd::AdderDelegate*>(delegate->data_);
}
