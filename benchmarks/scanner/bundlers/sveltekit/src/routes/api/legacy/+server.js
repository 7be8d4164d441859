import { json } from '@sveltejs/kit';
import jwt from 'jsonwebtoken';

export function GET() {
  return json({ token: jwt.sign({ id: 1 }, 'secret') });
}
