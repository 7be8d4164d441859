// Merges the static methods of a library into a program, as ILRepack does: Merge IN LIBRARY OUT.
using System.Collections.Generic;
using System.Linq;
using Mono.Cecil;
using Mono.Cecil.Cil;

public static class Merge {
    public static void Main(string[] names) {
        var main = AssemblyDefinition.ReadAssembly(names[0]).MainModule;
        var library = AssemblyDefinition.ReadAssembly(names[1]);
        var copies = new Dictionary<string, MethodDefinition>();
        foreach (var type in library.MainModule.Types.Where(one => one.Name != "<Module>"))
            main.Types.Add(Copy(type, main, copies));
        foreach (var method in main.Types.SelectMany(one => one.Methods).Where(one => one.HasBody))
            foreach (var step in method.Body.Instructions) {
                var called = step.Operand as MethodReference;
                MethodDefinition copy;
                if (called != null && copies.TryGetValue(called.FullName, out copy)) step.Operand = copy;
            }
        foreach (var known in main.AssemblyReferences.Where(one => one.Name == library.Name.Name).ToList())
            main.AssemblyReferences.Remove(known);
        main.Write(names[2]);
    }

    static TypeDefinition Copy(TypeDefinition type, ModuleDefinition main,
                               Dictionary<string, MethodDefinition> copies) {
        var parent = main.TypeSystem.Object;
        var made = new TypeDefinition(type.Namespace, type.Name, type.Attributes, parent);
        foreach (var method in type.Methods) {
            var copy = new MethodDefinition(method.Name, method.Attributes, main.Import(method.ReturnType));
            foreach (var one in method.Parameters)
                copy.Parameters.Add(new ParameterDefinition(one.Name, one.Attributes, main.Import(one.ParameterType)));
            foreach (var one in method.Body.Variables)
                copy.Body.Variables.Add(new VariableDefinition(main.Import(one.VariableType)));
            copy.Body.InitLocals = method.Body.InitLocals;
            foreach (var step in method.Body.Instructions) {
                var called = step.Operand as MethodReference;
                if (called != null) step.Operand = main.Import(called);
                copy.Body.Instructions.Add(step);
            }
            made.Methods.Add(copy);
            copies[method.FullName] = copy;
        }
        return made;
    }
}
