import { jwtVerify } from 'jose';
import { nanoid } from 'nanoid';

export default defineEventHandler(async (event) => {
  setHeader(event, 'x-id', nanoid());
  const token = getCookie(event, 'token');
  if (token) await jwtVerify(token, new Uint8Array(32));
});
