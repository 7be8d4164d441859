// Runs what it finds in its resources, as Costura.Fody does, or what it was merged with.
using System;
using System.IO;
using System.IO.Compression;
using System.Reflection;
using System.Runtime.CompilerServices;

public static class Shop {
    public static void Main() {
        AppDomain.CurrentDomain.AssemblyResolve += (sender, wanted) => Embedded();
        Run();
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    static void Run() { Console.WriteLine(Acme.Json.Convert.Text("shop")); }

    static Assembly Embedded() {
        var own = Assembly.GetExecutingAssembly();
        foreach (var name in own.GetManifestResourceNames()) {
            using (var found = new MemoryStream())
            using (var stream = own.GetManifestResourceStream(name)) {
                Stream source = stream;
                if (name.EndsWith(".compressed") || name == "packed")
                    source = new DeflateStream(stream, CompressionMode.Decompress);
                source.CopyTo(found);
                if (found.Length > 1 && found.GetBuffer()[0] == 'M') return Assembly.Load(found.ToArray());
            }
        }
        return null;
    }
}
