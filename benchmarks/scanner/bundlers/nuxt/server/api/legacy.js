import jwt from 'jsonwebtoken';

export default defineEventHandler(() => ({ token: jwt.sign({ id: 1 }, 'secret') }));
