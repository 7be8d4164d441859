'use client';
// Loads a part of it when it is needed.
import clsx from 'clsx';
import dayjs from 'dayjs';
import useSWR from 'swr';
import { debounce } from 'lodash-es';

const check = debounce(async (text) => (await import('validator')).default.isEmail(text), 100);

export default function Cart() {
  const { data } = useSWR('/api/orders', (url) => fetch(url).then((answer) => answer.json()));
  return <b className={clsx('cart', data && 'full')} onClick={() => check('a@b.c')}>{dayjs().year()}</b>;
}
