// What survives a reload: values by key, in IndexedDB.

const NAME = "eblora";
const TABLE = "work";

function whenDone(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

function database() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore(TABLE);
  return whenDone(request);
}

async function inTable(mode, work) {
  const db = await database();
  try {
    const transaction = db.transaction(TABLE, mode, { durability: "strict" });
    const ended = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = transaction.onerror = () => reject(transaction.error);
    });
    const result = await work(transaction.objectStore(TABLE));
    await ended;
    return result;
  } finally {
    db.close();
  }
}

/** The value of `key`, or undefined. */
export const get = (key) => inTable("readonly", (table) => whenDone(table.get(key)));
/** Keeps `value` under `key`; anything but functions, bytes included. */
export const put = (key, value) => inTable("readwrite", (table) => whenDone(table.put(value, key)));
/** Forgets these keys. */
export const remove = (...keys) =>
  inTable("readwrite", (table) => Promise.all(keys.map((key) => whenDone(table.delete(key)))));
/** Every key. */
export const keys = () => inTable("readonly", (table) => whenDone(table.getAllKeys()));
/** Forgets everything. */
export const clear = () => inTable("readwrite", (table) => whenDone(table.clear()));
