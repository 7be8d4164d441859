import jwt from 'jsonwebtoken';

export default function handler(request, answer) {
  answer.json({ token: jwt.sign({ id: 1 }, 'secret') });
}
