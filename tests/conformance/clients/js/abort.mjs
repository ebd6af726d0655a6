// Starts streams and aborts them after their first pieces: node abort.mjs HOST MODEL each|all
import { Ollama } from "ollama";

const [host, model, which] = process.argv.slice(2);
const ollama = new Ollama({ host });
const messages = [{ role: "user", content: "Why is the sky blue?" }];

const streams = await Promise.all([1, 2].map(() => ollama.chat({ model, messages, stream: true })));

let begun = 0;

async function read(stream) {
  let pieces = 0;
  try {
    for await (const piece of stream) {
      if (!piece.message.content) continue;
      pieces += 1;
      if (pieces > 1) continue;
      begun += 1;
      if (which === "each") stream.abort();
      else if (begun === streams.length) ollama.abort();
    }
  } catch (error) {
    return { pieces, error: error.name };
  }
  return { pieces, error: null };
}

process.stdout.write(JSON.stringify(await Promise.all(streams.map(read))));
