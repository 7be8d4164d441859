// Has the builds for the server and for browsers told which modules are in which file.
import { sveltekit } from '@sveltejs/kit/vite';
import { modulesIn } from './modules.mjs';

export default { plugins: [sveltekit(), modulesIn()], logLevel: 'error' };
