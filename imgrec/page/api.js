/** The server's API. Addresses are relative, so that the page works below a proxy's path. */

/** Hears of the gallery's versions: each answer has one. */
export const changes = new EventTarget();

let version = null;

/** The address of an operation; lists among the options are given several times, null is left out. */
export function address(path, options = {}) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options)) {
    for (const each of [value].flat()) if (each !== null && each !== undefined && each !== "") query.append(name, each);
  }
  return `api/${path}${query.size ? `?${query}` : ""}`;
}

/** An answer. Errors are those of the server, in a sentence. */
export async function ask(path, options, request = {}) {
  let response;
  try {
    response = await fetch(address(path, options), request);
  } catch {
    throw new Error("The server does not answer: is imgrec explore still running?");
  }
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({}));
    throw new Error(error ?? `The server answers ${response.status}`);
  }
  const now = response.headers.get("Imgrec-Version");
  if (now && version && now !== version) changes.dispatchEvent(new Event("change"));
  version = now ?? version;
  return response;
}

export const json = async (path, options, request) => (await ask(path, options, request)).json();

export const bytes = async (path, options) => new Uint8Array(await (await ask(path, options)).arrayBuffer());

/** POST a body of JSON. */
export const post = (path, data) =>
  ask(path, {}, { method: "POST", body: JSON.stringify(data), headers: { "Content-Type": "application/json" } });

export const thumbnail = (digest, side = 256) => `api/thumbs/${digest}/${side}.webp`;
