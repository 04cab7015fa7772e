// Loads an export as TensorFlow Serving does and runs one signature, without Python.
//
//   probe EXPORT SIGNATURE FOLDER
//
// reads FOLDER/in/NAME (a serialized TensorProto) for each input and writes FOLDER/out/NAME for each output.
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/compiler/jit/flags.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/framework/tensor.pb.h"

namespace {

int Fail(const std::string& what, const absl::Status& status) {
  std::cerr << what << ": " << status.ToString() << std::endl;
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: probe EXPORT SIGNATURE FOLDER" << std::endl;
    return 2;
  }
  const std::string name = argv[2], folder = argv[3];
  tensorflow::DisableXlaCompilation();  // as the server's main() does
  tensorflow::SavedModelBundle bundle;
  absl::Status status =
      tensorflow::LoadSavedModel({}, {}, argv[1], {"serve"}, &bundle);
  if (!status.ok()) return Fail("load", status);
  const auto& signatures = bundle.meta_graph_def.signature_def();
  const auto found = signatures.find(name);
  if (found == signatures.end()) return Fail("signature", absl::NotFoundError(name));

  std::vector<std::pair<std::string, tensorflow::Tensor>> inputs;
  for (const auto& [key, info] : found->second.inputs()) {
    std::ifstream file(folder + "/in/" + key, std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    tensorflow::TensorProto proto;
    tensorflow::Tensor tensor;
    if (!file || !proto.ParseFromString(content.str()) || !tensor.FromProto(proto))
      return Fail("input", absl::InvalidArgumentError(key));
    inputs.emplace_back(info.name(), tensor);
  }
  std::vector<std::string> keys, names;
  for (const auto& [key, info] : found->second.outputs()) {
    keys.push_back(key);
    names.push_back(info.name());
  }
  std::vector<tensorflow::Tensor> outputs;
  status = bundle.session->Run(inputs, names, {}, &outputs);
  if (!status.ok()) return Fail("run", status);
  for (size_t i = 0; i < keys.size(); ++i) {
    tensorflow::TensorProto proto;
    outputs[i].AsProtoField(&proto);
    std::ofstream file(folder + "/out/" + keys[i], std::ios::binary);
    if (!proto.SerializeToOstream(&file)) return Fail("output", absl::InternalError(keys[i]));
  }
  return 0;
}
