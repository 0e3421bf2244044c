/** Requests to the dashboard's own server. Errors carry the server's sentence. */

/** @param {string} path @param {AbortSignal} [signal] @returns {Promise<any>} */
export async function getJson(path, signal) {
  return read(await fetch(path, { signal, cache: "no-store" }));
}

/** @type {string | null} */
let csrf = null;

/**
 * Send JSON with the CSRF token of this browser's session. The token is fetched before the first request, and again if
 * the server has been restarted, because its secret is then another one.
 * @param {string} path @param {unknown} body @returns {Promise<any>}
 */
export async function postJson(path, body) {
  csrf ??= await token();
  let response = await post(path, body, csrf);
  if (response.status === 403) {
    csrf = await token();
    response = await post(path, body, csrf);
  }
  return read(response);
}

/** @returns {Promise<string>} */
async function token() {
  return (await getJson("api/v1/session")).csrf;
}

/** @param {string} path @param {unknown} body @param {string} value @returns {Promise<Response>} */
function post(path, body, value) {
  return fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": value },
    body: JSON.stringify(body),
  });
}

/** @param {Response} response @returns {Promise<any>} */
async function read(response) {
  const text = await response.text();
  if (response.ok) return text ? JSON.parse(text) : null;
  throw new Error(sentence(text) || `The server answered ${response.status} ${response.statusText}.`);
}

/** @param {string} text @returns {string} */
function sentence(text) {
  try {
    const body = JSON.parse(text);
    return body.error?.message ?? body.error ?? body.message ?? "";
  } catch {
    return text.length < 300 && !text.startsWith("<") ? text : "";
  }
}
