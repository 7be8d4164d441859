namespace Acme.Json {
    public static class Convert {
        public static string Text(string what) { return "{" + what + "}"; }
    }
}
