// Posts to BASE/0, BASE/1 and so on with Node's own client, and prints the status of each answer as a JSON list: null
// where Node takes what came for no answer.
import http from "node:http";

const [base, count] = process.argv.slice(2);

function post(url) {
  return new Promise((told) => {
    const request = http.request(url, { method: "POST", agent: false }, (answer) => {
      // the status decides: what becomes of the body does not count
      answer.on("error", () => {});
      answer.resume();
      told(answer.statusCode);
    });
    request.on("error", () => told(null));
    request.on("close", () => told(null));
    request.end("{}");
  });
}

const statuses = [];
for (let number = 0; number < Number(count); number += 1) {
  statuses.push(await post(`${base}/${number}`));
}
console.log(JSON.stringify(statuses));
process.exit(0);
