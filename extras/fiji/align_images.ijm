// Aligns two open images with `register align`, and opens the aligned one.
//
// Both images are written as TIFF into the folder that you choose, where the transform and the report are
// left too. Regions in the ROI Manager that belong to the fixed image are mapped onto the moving one.
// Fiji reads the aligned image as TIFF, by Bio-Formats; ImageJ (1.52 or later) alone as PNG, of 8 or 16 bits,
// because it has no tiled TIFF.

// The program: its full path where Fiji does not find it (a program of the desktop has another PATH).
program = "register";

if (nImages < 2)
    exit("Open the two images first");
titles = newArray(nImages);
for (i = 0; i < nImages; i++) {
    selectImage(i + 1);
    titles[i] = getTitle();
}
options = split(getArgument(), "\n");
if (options.length == 4) { // run from another macro: fixed, moving, folder, model
    fixed = options[0];
    moving = options[1];
    folder = options[2];
    model = options[3];
} else {
    Dialog.create("Align two images");
    Dialog.addChoice("Fixed", titles, titles[0]);
    Dialog.addChoice("Moving", titles, titles[1]);
    Dialog.addChoice("Model", newArray("local", "affine", "similarity", "rigid", "translation"), "local");
    Dialog.show();
    fixed = Dialog.getChoice();
    moving = Dialog.getChoice();
    model = Dialog.getChoice();
    folder = getDirectory("A folder for the results");
}
if (fixed == moving)
    exit("Fixed and moving are the same image");
if (!endsWith(folder, File.separator))
    folder = folder + File.separator;
results = folder + "aligned";
if (File.exists(results + File.separator + "transform.json"))
    exit(results + " holds results already: choose another folder");

List.setCommands;
bioformats = lengthOf(List.get("Bio-Formats Importer")) > 0;
format = "png";
ending = ".png";
if (bioformats) {
    format = "tiff";
    ending = ".tif";
}
save_as(fixed, folder + "fixed.tif");
save_as(moving, folder + "moving.tif");
said = exec(program, "align", folder + "fixed.tif", folder + "moving.tif", "-o", results,
    "--model", model, "--format", format);
print(said);
aligned = results + File.separator + "aligned" + ending;
if (!File.exists(aligned))
    exit("register did not align the images; see the log, or run it in a terminal");
if (matches(said, "(?s).*verdict +failed.*"))
    exit("The alignment failed; see the log, and report.html in " + results);
if (bioformats)
    run("Bio-Formats Importer", "open=[" + aligned + "] view=Hyperstack");
else
    open(aligned);

if (roiManager("count") > 0) {
    roiManager("save", folder + "regions.zip");
    said = exec(program, "points", results + File.separator + "transform.json", folder + "regions.zip",
        "-o", folder + "regions on moving.zip");
    print(said);
    if (!File.exists(folder + "regions on moving.zip"))
        exit("register did not map the regions; see the log, or run it in a terminal");
    roiManager("reset");
    roiManager("open", folder + "regions on moving.zip");
    selectImage(moving);
    roiManager("show all");
}

// Writes the whole of an open image without changing its title.
function save_as(title, path) {
    selectImage(title);
    run("Select None");
    run("Duplicate...", "title=[to be aligned] duplicate");
    saveAs("Tiff", path);
    close();
}
