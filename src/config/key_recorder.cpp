#include "config/key_recorder.h"

#include <algorithm>

namespace sluice {
namespace {

thread_local KeyRecorder* current_recorder = nullptr;

}  // namespace

KeyRecorder::KeyRecorder() : outer_(current_recorder) { current_recorder = this; }
KeyRecorder::~KeyRecorder() { current_recorder = outer_; }
KeyRecorder* KeyRecorder::current() { return current_recorder; }

void KeyRecorder::add(KeyFact fact) {
  const bool known = std::any_of(facts_.begin(), facts_.end(),
                                 [&](const KeyFact& other) { return other.path == fact.path; });
  if (!known) facts_.push_back(std::move(fact));
}

}  // namespace sluice
