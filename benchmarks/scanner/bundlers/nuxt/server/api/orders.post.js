import { SignJWT } from 'jose';
import { satisfies } from 'semver';
import { v4 } from 'uuid';
import { z } from 'zod';

export default defineEventHandler(async (event) => {
  const order = z.object({ name: z.string() }).parse(await readBody(event));
  const token = await new SignJWT({ id: v4() }).setProtectedHeader({ alg: 'HS256' }).sign(new Uint8Array(32));
  return { order, token, new: satisfies('1.2.3', '^1') };
});
