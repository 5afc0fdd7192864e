// Checks the three addresses of `run` before anything starts: whoever finds one taken is told which setting to change.

import { once } from "node:events";
import { createServer } from "node:net";

const SETTINGS = {
  FRONTEND_PORT: [/^(\d{1,5})$/, "a port, such as 8092"],
  FRONTEND_RELAY: [/^http:\/\/127\.0\.0\.1:(\d{1,5})$/, "http://127.0.0.1:PORT, since the relay runs on this machine"],
  FRONTEND_BASIQ: [/^http:\/\/127\.0\.0\.1:(\d{1,5})$/, "http://127.0.0.1:PORT, since the sandbox runs on this machine"],
};

function refuse(name, why) {
  console.error(`${name}=${process.env[name]}: ${why}`);
  process.exit(2);
}

const open = [];
for (const [name, [form, allowed]] of Object.entries(SETTINGS)) {
  const port = Number(form.exec(process.env[name])?.[1]);
  if (!(port > 0 && port < 65_536)) refuse(name, `must be ${allowed}`);
  const server = createServer().listen(port, "127.0.0.1");
  // held until all are checked, so that no two are the same
  open.push(server);
  await once(server, "listening").catch(({ code }) => {
    refuse(name, code === "EADDRINUSE" ? `port ${port} is taken, choose another one` : `port ${port} cannot be used (${code})`);
  });
}
for (const server of open) server.close();
