#include "config/run_config.h"

#include "config/error_of.h"
#include "config/run_fixture.h"

using namespace sluice;

namespace {

// What is wrong with the minimal run once `overrides` are applied; the exit code must be 2.
std::string error_with(const std::vector<std::string>& overrides) {
  const test::RunFixture run;
  return test::error_of(ErrorKind::kUsage, [&] { run.read(overrides); });
}

std::string error_of_file(const std::string& text) {
  const test::RunFixture run;
  run.write(text);
  return test::error_of(ErrorKind::kUsage, [&] { run.read(); });
}

}  // namespace

TEST_CASE("a minimal run has every default") {
  const test::RunFixture run;
  const RunConfig config = run.read();
  CHECK(config.name == "small");
  CHECK(config.model["hidden_size"] == 64);
  REQUIRE(config.data.train.size() == 1);
  CHECK(config.data.train[0].path == "shards/*.bin");
  CHECK(config.data.train[0].weight == 1.0);
  CHECK(config.train.steps == 1000);
  CHECK(config.train.output_dir == "runs/small");
  CHECK(config.train.sample_prompts == std::vector<std::string>{""});
  CHECK(config.optimizer.lr == 3e-4);
  CHECK(config.schedule.kind == ScheduleKind::kCosine);
  CHECK(config.checkpoint.keep_last == 2);
  CHECK_FALSE(config.data.document_token);
}

TEST_CASE("every key is read into its member, and the printed run reads back as itself") {
  const std::string text = R"({
  "name": "other",
  "model": {
    "model_type": "gla",
    "clamp_min": {
      "__float__": "-Infinity"
    }
  },
  "data": {
    "train": [
      {
        "path": "a.bin",
        "weight": 0.1
      },
      {
        "path": "b",
        "weight": 3.0
      }
    ],
    "validation": [
      {
        "path": "v.bin",
        "weight": 1.0
      }
    ],
    "tokenizer": "tok.model",
    "shuffle": false,
    "seed": 18446744073709551615,
    "reset_state_at_document": true,
    "document_token": 1,
    "prefetch": 5,
    "labels_from_token": 6,
    "labels_from_position": 7
  },
  "optimizer": {
    "name": "adamw",
    "lr": 0.001,
    "beta1": 0.8,
    "beta2": 0.99,
    "eps": 1e-06,
    "weight_decay": 0.05,
    "decay_embeddings": true,
    "decay_norms_and_biases": true,
    "grad_clip": 0.5
  },
  "schedule": {
    "kind": "wsd",
    "warmup_steps": 20,
    "initial_ratio": 0.25,
    "final_ratio": 0.01,
    "decay_fraction": 0.2
  },
  "train": {
    "steps": 300,
    "sequence_length": 256,
    "micro_batch_sequences": 3,
    "global_batch_tokens": 3072,
    "segments": 4,
    "recompute": "selective",
    "seed": 9,
    "device": "cpu",
    "dtype": "float64",
    "cuda_graph": false,
    "threads": 6,
    "output_dir": "out/x",
    "init_from": "hf",
    "nonfinite": "stop",
    "nonfinite_limit": 11,
    "validate_every": 12,
    "validate_sequences": 13,
    "sample_every": 14,
    "sample_tokens": 15,
    "sample_prompts": [
      "Once",
      "ä\n"
    ],
    "sample_temperature": 0.7
  },
  "checkpoint": {
    "every": 50,
    "every_minutes": 1.5,
    "keep_last": 3,
    "keep_every": 100,
    "verify": "size"
  },
  "log": {
    "every": 7,
    "tensorboard": false,
    "progress": "off"
  },
  "parallel": {
    "world_size": 2,
    "zero": 1,
    "sequence": 1,
    "check_weights_every": 30,
    "start_seconds": 20.5,
    "first_step_seconds": 31.5,
    "step_seconds": 32.5,
    "validate_seconds": 33.5,
    "save_seconds": 34.5
  }
})";
  const test::RunFixture run;
  // No value above is a default, so a member that is not read would print its default instead.
  const Json file = parse_json(text, "text", ErrorKind::kUsage);
  const Json defaults = to_json(RunConfig{});
  for (const auto& [section, keys] : file.items()) {
    if (!keys.is_object() || section == "model") continue;
    for (const auto& [key, value] : keys.items()) {
      INFO(section << "." << key);
      // parallel.sequence does not go with train.segments: tests/config/run_config_check_test.cpp.
      if (key != "name" && key != "sequence") CHECK(value != defaults[section][key]);
    }
  }
  run.write(text);
  CHECK(dump_json(to_json(run.read())) == text);
  // And once more through defaults.
  run.write(test::RunFixture::minimal());
  const Json printed = to_json(run.read());
  run.write(dump_json(printed));
  CHECK(to_json(run.read()) == printed);
}

TEST_CASE("all problems are reported at once, each with its key") {
  const std::string message = error_of_file(R"({
    "model": {}, "data": {"train": "a.bin", "shufle": true}, "modle": 1,
    "optimizer": {"lrr": 1, "warmup_steps": 5}, "train": {"steps": "3", "sequence_length": 1.9}})");
  CHECK_THAT(message, test::contains("small.json: 6 problems"));
  CHECK_THAT(message, test::contains("\n  data.shufle: unknown key; did you mean data.shuffle?"));
  CHECK_THAT(message, test::contains("\n  modle: unknown key"));
  CHECK_THAT(message, test::contains("\n  optimizer.lrr: unknown key; did you mean optimizer.lr?"));
  CHECK_THAT(message, test::contains("\n  optimizer.warmup_steps: unknown key; did you mean "
                                     "schedule.warmup_steps?"));
  CHECK_THAT(message, test::contains("\n  train.steps: expected an integer of at least 1, got the string"));
  CHECK_THAT(message,
             test::contains("\n  train.sequence_length: expected an integer of at least 1, got 1.9"));
}

TEST_CASE("what is missing is named") {
  const std::string message = error_of_file("{}");
  CHECK_THAT(message, test::contains("4 problems"));
  CHECK_THAT(message, test::contains("model: required"));
  CHECK_THAT(message, test::contains("data.train: required"));
  CHECK_THAT(message, test::contains("train.steps: required"));
  CHECK_THAT(message, test::contains("train.sequence_length: required"));
}

TEST_CASE("a file that is no run is refused whole") {
  CHECK_THAT(error_of_file("[1]"), test::contains("a run is a JSON object, this is a list"));
  CHECK_THAT(error_of_file(""), test::contains("small.json: line 1, column 1"));
  CHECK_THAT(error_of_file(R"({"train": {"steps": 1, "steps": 2}})"),
             test::contains("duplicate key train.steps"));
  CHECK_THAT(error_of_file(R"({"train": {"steps": NaN}})"), test::contains("NaN is no JSON value"));
  CHECK_THAT(error_of_file("{\"train\": {\"device\": \"\xC3\x28\"}}"), test::contains("ill-formed UTF-8"));
  CHECK_THAT(error_of_file(std::string(2'000'000, '[')), test::contains("deeper than 64 levels"));
  Problems problems;
  CHECK_THAT(test::error_of(ErrorKind::kUsage, [&] { read_run_config("/no/such/run.json", {}, problems); }),
             test::contains("/no/such/run.json"));
}

TEST_CASE("sources are a path, a list of paths, or paths with weights") {
  const test::RunFixture run;
  const auto train = [&](const std::string& value) { return run.read({"data.train=" + value}).data.train; };
  CHECK(train("a.bin").at(0).path == "a.bin");
  CHECK(train(R"(["a", "b"])").at(1).path == "b");
  const auto mixed = train(R"(["a", {"path": "b", "weight": 2}])");
  CHECK(mixed.at(1).path == "b");
  CHECK(mixed.at(1).weight == 2.0);
  CHECK_THAT(error_with({"data.train=[]"}), test::contains("data.train: empty"));
  CHECK_THAT(error_with({"data.train="}), test::contains("data.train: expected a path, got the empty"));
  CHECK_THAT(error_with({"data.train=3"}), test::contains("data.train: expected a path or a list"));
  CHECK_THAT(error_with({R"(data.train=["a", 3])"}), test::contains("data.train.1: expected a path or {"));
  CHECK_THAT(error_with({R"(data.train=[{"weight": 1}])"}), test::contains("data.train.0.path: required"));
  CHECK_THAT(error_with({R"(data.train=[{"path": ""}])"}), test::contains("data.train.0.path: expected"));
  CHECK_THAT(error_with({R"(data.train=[{"path": "a", "weight": 0}])"}),
             test::contains("data.train.0.weight: expected a number above 0, got 0"));
  CHECK_THAT(error_with({R"(data.train=[{"path": "a", "weight": -1}])"}),
             test::contains("at least 0, got -1"));
  CHECK_THAT(error_with({R"(data.train=[{"path": "a", "wieght": 1}])"}),
             test::contains("data.train.0.wieght: unknown key; did you mean data.train.0.weight?"));
}

TEST_CASE("the model may stand in a file beside the run, or relative to the working directory") {
  const test::RunFixture run;
  write_file_atomically(run.folder() / "m.json", R"({"model_type": "gla", "hidden_size": 32})",
                        ErrorKind::kUsage);
  CHECK(run.read({"model=m.json"}).model["hidden_size"] == 32);
  const RunConfig config = run.read({"model=m.json", "model.hidden_size=48"});
  CHECK(config.model["hidden_size"] == 48);
  CHECK(config.model["model_type"] == "gla");
  CHECK(run.read({"model=" + (run.folder() / "m.json").string()}).model["hidden_size"] == 32);
  const std::filesystem::path from_here = std::filesystem::relative(run.folder() / "m.json");
  CHECK(run.read({"model=" + from_here.string()}).model["hidden_size"] == 32);

  CHECK_THAT(error_with({"model=absent.json"}), test::contains("model: no file absent.json"));
  CHECK_THAT(error_with({"model=3"}),
             test::contains("model: expected an object or the path of a file, got 3"));
  write_file_atomically(run.folder() / "bad.json", "{", ErrorKind::kUsage);
  CHECK_THAT(test::error_of(ErrorKind::kUsage,
                            [&] {
                              run.read({"model=bad.json", "train.stepz=1"});
                            }),
             test::contains("bad.json: line 1, column 2"));
}

TEST_CASE("overrides are typed by the reader and reported with the rest") {
  const test::RunFixture run;
  const RunConfig config =
      run.read({"optimizer.lr=1e-3", "train.device=cpu", R"(data.train=[{"path": "b"}])",
                // A later override sees what an earlier one made.
                "data.train.0.weight=2", "data.train.1=c", "checkpoint.every=2e3", "log.tensorboard=false"});
  CHECK(config.optimizer.lr == 1e-3);
  CHECK(config.train.device == "cpu");
  CHECK(config.data.train.at(0).weight == 2.0);
  CHECK(config.data.train.at(1).path == "c");
  CHECK(config.checkpoint.every == 2000);
  CHECK_FALSE(config.log.tensorboard);
  const std::string message = error_with({"train.stepz=5", "optimizer.lr", "train.steps=1.5"});
  CHECK_THAT(message, test::contains("3 problems"));
  CHECK_THAT(message, test::contains("--set: optimizer.lr: the form is"));
}

TEST_CASE("bad values of single keys") {
  const std::pair<const char*, const char*> cases[] = {
      {"optimizer.lr=0", "optimizer.lr: expected a number above 0, got 0"},
      {"optimizer.lr=-1", "optimizer.lr: expected a finite number of at least 0, got -1"},
      {"optimizer.lr=nan", "optimizer.lr: expected a finite number of at least 0, got the string \"nan\""},
      {"optimizer.lr=inf", "optimizer.lr: expected a finite number"},
      {"optimizer.lr=null", "optimizer.lr: expected a finite number of at least 0, got null"},
      {"optimizer.beta1=1", "optimizer.beta1: expected a number from 0 to below 1, got 1"},
      {"optimizer.beta2=-0.1", "optimizer.beta2: expected a finite number from 0 to 1, got -0.1"},
      {"optimizer.eps=0", "optimizer.eps: expected a number above 0"},
      {"optimizer.name=sgd", "optimizer.name: expected \"adamw\", got the string \"sgd\""},
      {"schedule.final_ratio=1.5", "schedule.final_ratio: expected a finite number from 0 to 1, got 1.5"},
      {"schedule.kind=cosin", "schedule.kind: expected \"cosine\", \"linear\", \"constant\" or \"wsd\""},
      {"train.steps=0", "train.steps: expected an integer of at least 1, got 0"},
      {"train.steps=true", "train.steps: expected an integer of at least 1, got true"},
      {"train.micro_batch_sequences=3e9", "expected an integer from 1 to 2147483647, got 3000000000"},
      {"train.nonfinite=ignore", "train.nonfinite: expected \"skip\" or \"stop\""},
      {"train.recompute=all", "train.recompute: expected \"none\", \"selective\" or \"layer\""},
      {"train.seed=-1", "train.seed: expected an integer from 0 to 18446744073709551615, got -1"},
      {"train.dtype=fp8", "train.dtype: expected \"auto\", \"float32\", \"bfloat16\" or \"float64\""},
      {"train=5", "train: expected an object, got 5"},
      {"log=null", "log: expected an object, got null"},
      {"checkpoint.keep_last=1", "checkpoint.keep_last: expected an integer of at least 2, got 1"},
      {"checkpoint.every_minutes=-1", "checkpoint.every_minutes: expected"},
      {"parallel.world_size=-1", "parallel.world_size: expected an integer from 0"},
      {"parallel.start_seconds=0", "parallel.start_seconds: expected"},
      {"data.document_token=-1", "data.document_token: expected an integer from 0"},
      {"train.sample_prompts=Once", "train.sample_prompts: expected a list of strings"},
      {"name=", "name: expected a name, got the empty string"},
      {"train.stepz=5", "train.stepz: unknown key; did you mean"},
      {"trian.steps=5", "trian: unknown key"},
      {"train.steps", "--set: train.steps: the form is section.key=value"},
      {"data.train.0.weight=2", "--set: data.train.0.weight=2: data.train is the string"},
  };
  for (const auto& [override_text, expected] : cases) {
    INFO(override_text);
    CHECK_THAT(error_with({override_text}), test::contains(expected));
  }
}
