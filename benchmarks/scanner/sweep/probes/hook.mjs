// Appends the address of every module that is loaded as ESM.
import { appendFileSync } from 'node:fs';

export async function load(url, context, next) {
  if (url.startsWith('file:')) appendFileSync(process.env.SWEEP_ESM, `${url}\n`);
  return next(url, context);
}
