#include <CLI/CLI.hpp>

#include "core/program.h"
#include "tools/tokenize/commands.h"

int main(int argc, char** argv) {
  CLI::App app{
      "Text to token shards for training, and back.\n\n"
      "  tokenize train-model --input books/ --vocab-size 32000 --output tok.model\n"
      "  tokenize encode --tokenizer tok.model --input books/ --output shards --held-out-every 100\n"
      "  tokenize decode --tokenizer tok.model shards/train_000000.bin --count 200\n"
      "  tokenize stats shards/train_*.bin\n",
      "tokenize"};
  app.footer(
      "Inputs are files or directories (searched to the bottom, names beginning with a dot left out). A "
      ".jsonl or\n"
      ".ndjson file holds a document a line, any other file is one document; .gz, .xz and .zst are "
      "decompressed.\n"
      "`tokenize COMMAND --help` tells the rest.\n\n"
      "Exit codes: 0 done, 1 internal error, 2 usage, 3 data (cannot be read, written or used), 5 out of "
      "memory.");
  app.require_subcommand(1);
  sluice::tokenize::Action chosen;
  sluice::tokenize::add_train_model(app, chosen);
  sluice::tokenize::add_encode(app, chosen);
  sluice::tokenize::add_decode(app, chosen);
  sluice::tokenize::add_stats(app, chosen);
  return sluice::run_program(app, argc, argv, [&] { return chosen(); });
}
