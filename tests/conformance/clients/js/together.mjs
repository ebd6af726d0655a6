// Chats six times at once and streams beside it: node together.mjs HOST MODEL
import { Ollama } from "ollama";

const [host, model] = process.argv.slice(2);
const ollama = new Ollama({ host });
const messages = [{ role: "user", content: "Why is the sky blue?" }];

async function streamed() {
  let text = "";
  for await (const piece of await ollama.chat({ model, messages, stream: true })) text += piece.message.content;
  return text;
}

const whole = [1, 2, 3, 4, 5, 6].map(async () => (await ollama.chat({ model, messages })).message.content);
process.stdout.write(JSON.stringify(await Promise.all([streamed(), ...whole])));
