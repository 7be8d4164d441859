// Runs on the edge.
import { jwtVerify } from 'jose';
import { nanoid } from 'nanoid';
import { NextResponse } from 'next/server';

export async function middleware(request) {
  const answer = NextResponse.next();
  answer.headers.set('x-id', nanoid());
  const token = request.cookies.get('token');
  if (token) await jwtVerify(token.value, new Uint8Array(32));
  return answer;
}
