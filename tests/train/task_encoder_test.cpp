#include "train/task_encoder.h"

#include <algorithm>

#include "core/error.h"
#include "support/catch.h"
#include "support/temporary_directory.h"
#include "tiny_model.h"

using namespace sluice;

namespace {

constexpr const char* kNoBos = R"({"model_type": "gla", "num_heads": 2, "bos_token_id": null})";
constexpr const char* kNoBosNoEos =
    R"({"model_type": "gla", "num_heads": 2, "bos_token_id": null, "eos_token_id": null})";

using Tokens = std::vector<int32_t>;

struct Fixture {
  test::TemporaryDirectory directory;
  Tokenizer tokenizer{test::write_tokenizer(directory / "tokenizer.model")};

  TaskEncoder encoder(const char* json = kNoBos) const { return {tokenizer, test::tiny_config(json, 300)}; }
};

Tokens joined(Tokens first, const Tokens& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

}  // namespace

TEST_CASE("a continuation is what the whole has behind the context's tokens") {
  const Fixture f;
  const auto request = f.encoder().pair("the cat", " sat on", "here");
  CHECK(request.context == f.tokenizer.encode("the cat"));
  CHECK(joined(request.context, request.continuation) == f.tokenizer.encode("the cat sat on"));
  CHECK_FALSE(request.wants_greedy);

  // White space at the end of the context goes over.
  const auto moved = f.encoder().pair("the cat ", "sat on", "here");
  CHECK(moved.context == request.context);
  CHECK(moved.continuation == request.continuation);

  // As many tokens are left out as the context alone has, whatever the whole's first tokens are.
  const Tokens part = f.tokenizer.encode("the c"), whole = f.tokenizer.encode("the cat sat");
  REQUIRE(!std::equal(part.begin(), part.end(), whole.begin()));
  const auto split = f.encoder().pair("the c", "at sat", "here");
  CHECK(split.context == part);
  CHECK(split.continuation == Tokens(whole.begin() + static_cast<int64_t>(part.size()), whole.end()));
}

TEST_CASE("bos stands in front, and eos stands in for a context without tokens") {
  const Fixture f;
  const ModelConfig model = test::tiny_config(test::kTinyGla, 300);
  REQUIRE((model.bos_token_id && model.eos_token_id));
  const auto bos = static_cast<int32_t>(*model.bos_token_id), eos = static_cast<int32_t>(*model.eos_token_id);
  const auto request = f.encoder(test::kTinyGla).pair("the cat", " sat", "here");
  CHECK(request.context == joined({bos}, f.tokenizer.encode("the cat")));
  CHECK(f.encoder(test::kTinyGla).pair("", "the cat", "here").context == Tokens{bos});
  CHECK(f.encoder().pair(" ", "the cat", "here").context == Tokens{eos});
  CHECK(f.encoder(test::kTinyGla).prompt("the dog", 5).prompt ==
        joined({bos}, f.tokenizer.encode("the dog")));
  CHECK_THROWS_WITH(f.encoder(kNoBosNoEos).pair("", "the cat", "file: line 7"),
                    test::contains("file: line 7: an empty context"));
}

TEST_CASE("a continuation without tokens of its own and a foreign tokenizer are errors") {
  const Fixture f;
  // One token that two shorter ones begin: "cat" against "ca" + ...
  const std::string context = "the do", continuation = "g";
  REQUIRE(f.tokenizer.encode(context + continuation).size() <= f.tokenizer.encode(context).size());
  try {
    f.encoder().pair(context, continuation, "file: line 3");
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 3);
    CHECK_THAT(error.what(), test::contains("file: line 3: \"g\" has no tokens"));
  }
  try {
    const TaskEncoder refused(f.tokenizer, test::tiny_config(kNoBos, 299));
    FAIL("no error");
  } catch (const Error& error) {
    CHECK(error.exit_code() == 2);
    CHECK_THAT(error.what(), test::contains("300 tokens and the model 299"));
  }
}

TEST_CASE("needle prompts have their length, and the needle at its depth behind a sentence") {
  const Fixture f;
  NeedleItem item;
  item.haystack = "the cat sat on the mat. and the dog ran after the cat.";
  item.needle = " the mat ran.";
  item.question = "\nthe mat";
  item.lengths = {40, 200};
  item.depths = {0, 0.5, 1};
  item.max_tokens = 9;
  const Tokens haystack = f.tokenizer.encode(item.haystack), needle = f.tokenizer.encode(item.needle),
               question = f.tokenizer.encode(item.question);
  const int32_t stop = f.tokenizer.encode("cat.").back();
  REQUIRE(f.tokenizer.bytes_of(stop) == ".");
  const auto requests = f.encoder(test::kTinyGla).needle_prompts(item, "here");
  REQUIRE(requests.size() == 6);
  for (size_t i = 0; i < requests.size(); ++i) {
    CAPTURE(i);
    const Tokens& prompt = requests[i].prompt;
    REQUIRE(static_cast<int64_t>(prompt.size()) == item.lengths[i / 3]);
    CHECK(requests[i].max_tokens == 9);
    CHECK(prompt.front() == 1);
    CHECK(std::equal(question.rbegin(), question.rend(), prompt.rbegin()));
    const auto at = std::search(prompt.begin() + 1, prompt.end(), needle.begin(), needle.end());
    REQUIRE(at != prompt.end());
    // Without the needle the haystack is left, again and again.
    Tokens rest(prompt.begin() + 1, at);
    rest.insert(rest.end(), at + static_cast<int64_t>(needle.size()), prompt.end());
    rest.resize(rest.size() - question.size());
    for (size_t k = 0; k < rest.size(); ++k) REQUIRE(rest[k] == haystack[k % haystack.size()]);
    const auto place = static_cast<double>(at - prompt.begin() - 1) / static_cast<double>(rest.size());
    if (i % 3 == 0) CHECK(place == 0);
    if (i % 3 == 2) CHECK(place == 1);
    if (i % 3 == 1) {
      CHECK((place <= 0.51 && place > (i == 1 ? 0.0 : 0.3)));
      CHECK(*(at - 1) == stop);
    }
  }
  item.lengths = {static_cast<int64_t>(needle.size() + question.size()) + 1};
  CHECK_THROWS_WITH(f.encoder(test::kTinyGla).needle_prompts(item, "file: line 2"),
                    test::contains("file: line 2: lengths") && test::contains("no room"));
  CHECK(f.encoder().needle_prompts(item, "here").size() == 3);  // without bos there is room for one token
}

TEST_CASE("an answer ends at eos or a line end, which is not part of its text") {
  const Fixture f;
  const TaskEncoder encoder = f.encoder(test::kTinyGla);
  const int32_t line_end = f.tokenizer.encode("\n").back();
  CHECK(encoder.ends_answer(line_end));
  CHECK(encoder.ends_answer(2));
  CHECK_FALSE(encoder.ends_answer(f.tokenizer.encode("cat").front()));
  CHECK(encoder.answer_text(f.tokenizer.encode("the cat\nsat")) == "the cat");
  CHECK(encoder.answer_text(joined(f.tokenizer.encode("the cat"), {2})) == "the cat");
}
