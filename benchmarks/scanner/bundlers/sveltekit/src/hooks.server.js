import { jwtVerify } from 'jose';
import { nanoid } from 'nanoid';

export async function handle({ event, resolve }) {
  const token = event.cookies.get('token');
  if (token) await jwtVerify(token, new Uint8Array(32));
  const answer = await resolve(event);
  answer.headers.set('x-id', nanoid());
  return answer;
}
